# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line against the real daemon, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from checker.cases.case import decode, encode, from_finding
from checker.cases.case import load as load_case
from model.values.trace import ImageSpec, Observation
from reports.values import Finding, Step

DAEMON = "qemu-storage-daemon"
ROOT = Path(__file__).parents[2]

ADD = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n0"}}
DELETE = {"execute": "blockdev-del", "arguments": {"node-name": "n0"}}


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-c", "from checker.cli import main; main()", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command_line(*words),
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def write_case(directory: Path, *replies: dict[str, Any]) -> str:
    finding = Finding(
        kind="divergence",
        signature="s",
        title="t",
        images=(ImageSpec("hd0.raw", "raw", 1048576),),
        steps=tuple(
            Step(command, Observation(reply, None, None))
            for command, reply in zip((ADD, DELETE), replies, strict=True)
        ),
        dialect="qemu-7.2",
    )
    path = directory / "case.json"
    path.write_bytes(encode(from_finding(finding)))
    return str(path)


def test_diff_prints_one_document(tmp_path: Path) -> None:
    words = ["diff", "--qemu", DAEMON, "--examples", "5", "--steps", "8", "--seed", "1", "--json"]
    done = run(tmp_path, *words, "--report", "report")
    assert done.returncode in {0, 1}, done.stderr
    document = json.loads(done.stdout)
    assert document["examples"] == 5
    assert document["commands"] == document["accepted"] + document["refused"]
    assert document["seed"] == 1
    assert document["divergences"] + document["crashes"] == 0 or done.returncode == 1
    assert {"summary.md", "junit.xml"} <= {p.name for p in (tmp_path / "report").iterdir()}
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cases"]


def test_repeat_prints_one_document(tmp_path: Path) -> None:
    words = ["repeat", "--qemu", DAEMON, "--examples", "6", "--steps", "10", "--seed", "1"]
    done = run(tmp_path, *words, "--reduce", "0", "--json", "--report", "report")
    assert done.returncode in {0, 1}, done.stderr
    document = json.loads(done.stdout)
    assert (document["command"], document["examples"]) == ("repeat", 6)
    assert (document["divergences"] == 0) == (done.returncode == 0)
    assert document["crashes"] == document["violations"] == 0
    assert {"summary.md", "junit.xml"} <= {p.name for p in (tmp_path / "report").iterdir()}


def test_replay_agrees_and_differs(tmp_path: Path) -> None:
    good: dict[str, Any] = {"return": {}}
    bad: dict[str, Any] = {"error": {"class": "GenericError", "desc": "no"}}
    done = run(tmp_path, "replay", write_case(tmp_path, good, good), "--qemu", DAEMON)
    assert done.returncode == 0, done.stderr
    assert "agrees: qemu-storage-daemon version" in done.stdout
    done = run(tmp_path, "replay", write_case(tmp_path, good, bad), "--qemu", DAEMON)
    assert done.returncode == 1
    assert "DIFFERS at reply" in done.stdout
    assert done.stderr == ""


def test_a_case_of_another_release_says_so_where_it_differs(tmp_path: Path) -> None:
    good: dict[str, Any] = {"return": {}}
    bad: dict[str, Any] = {"error": {"class": "GenericError", "desc": "no"}}
    for reply, status, told in ((good, 0, ""), (bad, 1, "what qemu-10.0 does, and this is 7.2")):
        path = tmp_path / write_case(tmp_path, good, reply)
        path.write_text(path.read_text().replace('"qemu-7.2"', '"qemu-10.0"'))
        done = run(tmp_path, "replay", str(path), "--qemu", DAEMON)
        assert done.returncode == status, done.stderr
        assert told in done.stderr
        assert bool(done.stderr) == bool(told)


def test_a_mutant_is_caught(tmp_path: Path) -> None:
    words = ["mutants", "--qemu", DAEMON, "--rule", "reopen.unchanged", "--seed", "3", "--json"]
    done = run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (mutant,) = json.loads(done.stdout)["mutants"]
    assert 1 <= mutant["caught"] <= 500


PLANTED = """
from model.release import dialects
dialects.DIALECTS["qemu-7.2"] = dialects.QEMU_7_2.without("reopen.unchanged")
from checker.cli import main
main()
"""
"""The command line with a model that lacks a rule, which about every third example shows."""


@pytest.mark.slow
def test_planted_fault_becomes_a_case(tmp_path: Path) -> None:
    """Drive the whole way once: a model that lacks a rule, its case, and the case replayed."""
    words = ["diff", "--qemu", DAEMON, "--examples", "15", "--seed", "3", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, *words, "--report", "report"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["divergences"] > 0
    findings = [f for f in document["findings"] if "Cannot change the option" in f["signature"]]
    assert findings
    case = tmp_path / findings[0]["case"]
    assert 1 <= len(load_case(case).steps) <= 4
    shown = subprocess.run(
        ["sh", str(tmp_path / "report" / f"{case.stem}.sh")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Cannot change the option" in shown.stdout
    again = run(tmp_path, "replay", str(case), "--qemu", DAEMON)
    assert again.returncode == 1
    # The case expects what the mutant said; the whole model says what the daemon says.
    sound = decode(case.read_bytes().replace(b" without reopen.unchanged", b""))
    case.write_bytes(encode(sound))
    assert run(tmp_path, "replay", str(case)).returncode == 1


def appears(directory: Path, pattern: str) -> bool:
    """Wait until there is such a path; give up when the host cannot be that busy."""
    deadline = time.monotonic() + 120
    while not (found := list(directory.glob(pattern))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_prints_what_was_found_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = ["diff", "--qemu", DAEMON, "--examples", "1000000", "--seed", "3", "--reduce", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", PLANTED, *words, "--json"],
        cwd=tmp_path,
        env={**environment(), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    shown = appears(tmp_path, "out/cases/*.json")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert shown, err
    assert process.returncode == 130, err
    document = json.loads(out)
    assert document["interrupted"] is True
    assert document["examples"] > 0
    assert document["findings"]
    assert "Traceback" not in err
    # Where the signal struck within the cleaning up, a guard goes on with it.
    deadline = time.monotonic() + 60
    while list(tmp_path.glob("reopencheck-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.glob("reopencheck-*")), "scratch directories go with the daemons"


def test_a_budget_ends_the_run(tmp_path: Path) -> None:
    words = ["diff", "--qemu", DAEMON, "--examples", "1000000", "--budget", "2s", "--json"]
    done = run(tmp_path, *words, "--reduce", "0")
    document = json.loads(done.stdout)
    assert 0 < document["examples"] < 1000000
    assert document["interrupted"] is False


def test_import_schema(tmp_path: Path) -> None:
    done = run(tmp_path, "qemu", "import-schema", DAEMON, "--output", "schema.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))["commands"]


def test_doctor(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout)
    assert document["complete"] is True
    assert document["masks"]
    assert document["normalisations"]
    assert {part["name"] for part in document["parts"]} >= {
        DAEMON,
        "qemu-img",
        "qemu-io",
        "dialect",
    }
