# SPDX-License-Identifier: GPL-2.0-or-later
"""The scripts of findings, run against the real daemon with a plain shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model.trace import ImageSpec, Observation
from reports import script
from reports.values import Finding, Step

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        shutil.which("qemu-storage-daemon") is None or shutil.which("qemu-img") is None,
        reason="no qemu-storage-daemon or qemu-img in PATH",
    ),
]

GOOD = Observation({"return": {}}, None, None)
QCOW2: dict[str, Any] = {
    "driver": "qcow2",
    "node-name": "it's $HOME",
    "file": {"driver": "file", "filename": "hd0.qcow2"},
}
NULL = {"driver": "null-co", "node-name": "z"}
TOP = {**QCOW2, "node-name": "top"}


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
