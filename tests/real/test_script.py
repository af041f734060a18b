# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripts of findings, run against the real daemon with a plain shell."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import attrs

from model.values.trace import ImageSpec, Observation
from reports import script
from reports.values import Finding, Step

if TYPE_CHECKING:
    from pathlib import Path

GOOD = Observation({"return": {}}, None, None)
QCOW2: dict[str, Any] = {
    "driver": "qcow2",
    "node-name": "it's $HOME",
    "file": {"driver": "file", "filename": "hd0.qcow2"},
}
NULL = {"driver": "null-co", "node-name": "z"}
TOP = {**QCOW2, "node-name": "top"}


def wait(job: str, status: str, **more: int) -> dict[str, Any]:
    return {"execute": "reopencheck-wait", "arguments": {"id": job, "status": status, **more}}


def read(node: str) -> dict[str, Any]:
    return {"execute": "reopencheck-read", "arguments": {"node": node}}


def write(node: str, offset: int, length: int, pattern: int) -> dict[str, Any]:
    arguments = {"node": node, "offset": offset, "length": length, "pattern": pattern}
    return {"execute": "reopencheck-write", "arguments": arguments}


def finding(*commands: dict[str, Any]) -> Finding:
    return Finding(
        kind="divergence",
        signature="x",
        title="a title",
        images=(
            ImageSpec("base.raw", "raw", 1048576),
            ImageSpec("hd0.qcow2", "qcow2", 1048576, "base.raw", "raw"),
            ImageSpec("hd1.qcow2", "qcow2", 1048576, "base.raw"),
        ),
        steps=tuple(Step(command, GOOD, GOOD) for command in commands),
    )


def run(text: str, tmp_path: Path, **variables: str) -> list[str]:
    path = tmp_path / "finding.sh"
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["sh", str(path)],
        env={**os.environ, "TMPDIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [p.name for p in tmp_path.iterdir()] == ["finding.sh"]
    return done.stdout.splitlines()


def test_replies_stand_beside_what_was_expected(tmp_path: Path) -> None:
    reopen = {"execute": "blockdev-reopen", "arguments": {"options": [NULL]}}
    lines = run(
        script.render(
            finding(
                {"execute": "blockdev-add", "arguments": QCOW2},
                {"execute": "blockdev-add", "arguments": TOP},
                {"execute": "blockdev-add", "arguments": NULL},
                reopen,
            )
        ),
        tmp_path,
    )
    got = [line for line in lines if line.startswith("  got  ")]
    assert "Invalid node-name: 'it's $HOME'" in got[0]
    assert '"return": {}' in got[1]
    assert '"return": {}' in got[2]
    assert '"return": {}' in got[3]
    assert '"ro": true' in got[4]
    assert '"perm": ' in got[5]
    assert len(got) == 6
    assert "the daemon ended with status 0" in lines


def test_many_commands_all_get_their_reply(tmp_path: Path) -> None:
    query = {"execute": "query-named-block-nodes"}
    lines = run(script.render(finding(*[query] * 300)), tmp_path)
    got = [line for line in lines if line.startswith("  got  ")]
    assert len(got) == 302
    assert not any("no reply" in line for line in got)


def test_a_dead_daemon_is_told(tmp_path: Path) -> None:
    # The daemon aborts when a null device is given a negative size.
    add: dict[str, Any] = {
        "execute": "blockdev-add",
        "arguments": {"driver": "null-co", "size": -1},
    }
    deadly = {**add, "arguments": {"node-name": "n0", **add["arguments"]}}
    lines = run(script.render(attrs.evolve(finding(deadly), kind="crash")), tmp_path)
    assert "  got       (no reply)" in lines
    assert any(line.startswith("the daemon ended with status 1") for line in lines)
    assert any(line.startswith("  stderr    ") for line in lines)


def test_another_binary_can_be_chosen(tmp_path: Path) -> None:
    text = script.render(finding({"execute": "query-version"}))
    lines = run(text, tmp_path, QSD="false")
    assert lines.count("  got       (no reply)") == 3
    assert "the daemon ended with status 1" in lines


def test_an_image_may_keep_its_backing_format_to_itself(tmp_path: Path) -> None:
    add: dict[str, Any] = {**TOP, "file": {"driver": "file", "filename": "hd1.qcow2"}}
    lines = run(script.render(finding({"execute": "blockdev-add", "arguments": add})), tmp_path)
    assert any('"backing-filename": "base.raw"' in line for line in lines)
    assert not any("backing-filename-format" in line for line in lines)


def shown(lines: list[str]) -> list[str]:
    """What was got of each step, and of the two queries at the end."""
    return [line.partition("got")[2].strip() for line in lines if line.startswith("  got  ")]


DISK = {"driver": "file", "filename": "disk.raw"}
COPY = {"driver": "file", "filename": "copy.raw"}
DATA = (
    ImageSpec("disk.raw", "raw", 4194304, data=((0, 1048576, 17), (1048000, 1000, 18))),
    ImageSpec("copy.raw", "raw", 4194304),
)
MIRROR: dict[str, Any] = {
    "execute": "blockdev-mirror",
    "arguments": {"job-id": "j0", "device": "disk", "target": "copy", "sync": "full"},
}


def add(name: str, **options: Any) -> dict[str, Any]:
    return {"execute": "blockdev-add", "arguments": {"node-name": name, **options}}


def test_a_job_is_waited_for_and_data_is_read(tmp_path: Path) -> None:
    found = attrs.evolve(
        finding(
            add("disk", **DISK),
            add("copy", **COPY),
            MIRROR,
            wait("j0", "ready"),
            write("disk", 2097152, 512, 7),
            read("disk"),
            {"execute": "block-job-complete", "arguments": {"device": "j0"}},
            wait("j0", "null"),
            read("copy"),
            read("nobody"),
        ),
        images=DATA,
    )
    got = shown(run(script.render(found), tmp_path))
    runs = "[[0, 1048000, 17], [1048000, 1049000, 18], [2097152, 2097664, 7]]"
    assert got[3:6] == [
        '{"return": {"status": "ready"}}',
        '{"return": {}}',
        f'{{"return": {runs}}}',
    ]
    assert got[7:9] == ['{"return": {"status": "null"}}', f'{{"return": {runs}}}']
    assert "Cannot find device='' nor node-name='nobody'" in got[9]
    assert len(got) == 12


def test_a_sleeping_job_is_waited_for(tmp_path: Path) -> None:
    chain = [
        add("base", **DISK),
        add("mid", driver="qcow2", file={**COPY, "filename": "mid.qcow2"}, backing="base"),
        add("top", driver="qcow2", file={**COPY, "filename": "top.qcow2"}, backing="mid"),
    ]
    commit = {"job-id": "j0", "device": "top", "top-node": "mid", "base-node": "base", "speed": 1}
    images = (
        DATA[0],
        ImageSpec("mid.qcow2", "qcow2", 4194304, data=((0, 2097152, 5),)),
        ImageSpec("top.qcow2", "qcow2", 4194304),
    )
    found = finding(
        *chain,
        {"execute": "block-commit", "arguments": commit},
        wait("j0", "running", progress=524288),
        {"execute": "job-pause", "arguments": {"id": "j0"}},
        wait("j0", "paused"),
        {"execute": "job-cancel", "arguments": {"id": "j0"}},
        wait("j0", "null"),
    )
    got = shown(run(script.render(attrs.evolve(found, images=images)), tmp_path))
    assert [got[n] for n in (4, 6, 8)] == [
        f'{{"return": {{"status": "{status}"}}}}' for status in ("running", "paused", "null")
    ]


def test_data_is_read_through_the_server_of_the_trace(tmp_path: Path) -> None:
    address = {"type": "unix", "data": {"path": "its.sock"}}
    export = {"type": "nbd", "id": "e0", "node-name": "disk", "writable": False}
    found = finding(
        add("disk", **DISK),
        {"execute": "nbd-server-start", "arguments": {"addr": address}},
        {"execute": "block-export-add", "arguments": export},
        read("disk"),
        {"execute": "query-block-exports"},
        {"execute": "nbd-server-stop"},
        read("disk"),
    )
    got = shown(run(script.render(attrs.evolve(found, images=DATA)), tmp_path))
    assert got[3] == got[6]
    assert got[3] == '{"return": [[0, 1048000, 17], [1048000, 1049000, 18]]}'
    assert '"id": "e0"' in got[4]
    assert '"id": "reopencheck"' not in got[4]


def test_a_job_that_goes_another_way_and_a_dead_daemon_are_told(tmp_path: Path) -> None:
    deadly = add("n0", driver="null-co", size=-1)
    found = attrs.evolve(
        finding(add("disk", **DISK), wait("j0", "ready"), deadly, read("disk")), images=DATA
    )
    text = script.render(attrs.evolve(found, kind="crash")).replace("-lt 100 ]", "-lt 3 ]")
    got = shown(run(text, tmp_path))
    assert got[1] == "the job 'j0' is null"
    assert got[2] == got[3] == "(no reply)"
    lines = run(script.render(found), tmp_path, QSD="false")
    assert shown(lines) == ["(no reply)"] * 6
    assert "the daemon ended with status 1" in lines


def test_a_finding_of_the_emulator_waits_for_its_disks(tmp_path: Path) -> None:
    def command(execute: str, **arguments: Any) -> dict[str, Any]:
        return {"execute": execute, "arguments": arguments}

    plug = command("device_add", driver="scsi-hd", id="d0", drive="z")
    unplug = command("device_del", id="d0")
    gone = wait("/machine/peripheral/d0", "unplugged")
    found = finding(
        command("blockdev-add", **NULL),
        command("device_add", driver="virtio-scsi-pci", id="c0"),
        *(plug, unplug, gone) * 2,
        command("blockdev-del", **{"node-name": "z"}),
    )
    lines = run(script.render(attrs.evolve(found, dialect="qemu-system-7.2")), tmp_path)
    got = [line for line in lines if line.startswith("  got  ")]
    assert len(got) == 11
    assert [line for line in got[:9] if '"return": {' not in line] == []
    assert got[4] == '  got       {"return": {"status": "unplugged"}}'
    assert "the daemon ended with status 0" in lines
