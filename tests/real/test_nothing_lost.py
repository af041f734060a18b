# SPDX-License-Identifier: GPL-2.0-or-later
"""The tool is killed while it works: nothing that it had found is lost, and each end is quiet."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DAEMON = "qemu-storage-daemon"
MUTANT = (
    "from model.release import dialects\n"
    "dialects.DIALECTS['qemu-7.2'] = dialects.QEMU_7_2.without('reopen.unchanged')\n"
    "from checker.cli import main\n"
    "main()\n"
)
"""A spec that is wrong on purpose: it differs from any daemon after a few examples."""
ENDLESS = ["diff", "--qemu", DAEMON, "--examples", "1000000", "--reduce", "20"]


def begin(directory: Path, *words: str, script: str = MUTANT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *words, "--report", "report", "--json"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until_found(directory: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not list((directory / "out/cases").glob("journal/*.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def cases(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.glob("out/cases/*.json")}


@pytest.mark.parametrize("seed", range(3))
def test_signals_lose_nothing(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311  # which moment does not matter, only which again
    process = begin(tmp_path, *ENDLESS, "--seed", str(seed))
    until_found(tmp_path, process)
    time.sleep(choose.random())
    for _ in range((2, 3, 10)[seed]):
        process.send_signal(choose.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        time.sleep(choose.random() * 0.015)
    out, err = process.communicate(timeout=120)
    document: dict[str, Any] = json.loads(out)
    assert process.returncode == 130, err
    assert document["interrupted"] is True
    assert {found["case"] for found in document["findings"]} == cases(tmp_path) != set()
    assert "Traceback" not in err
    page = (tmp_path / "report/summary.md").read_text(encoding="utf-8")
    assert all(name in page for name in cases(tmp_path))
    assert not (tmp_path / "out/cases/journal").exists()


@pytest.mark.parametrize("seed", range(2))
def test_what_a_killed_run_found_is_reported_by_the_next(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311  # which moment does not matter, only which again
    process = begin(tmp_path, *ENDLESS, "--seed", str(seed))
    until_found(tmp_path, process)
    time.sleep(choose.random() * 2)
    process.kill()
    process.communicate(timeout=60)
    following = begin(tmp_path, "check", "--examples", "1", "--seed", "1")
    out, err = following.communicate(timeout=120)
    document: dict[str, Any] = json.loads(out)
    assert following.returncode == 1
    assert {found["case"] for found in document["recovered"]} == cases(tmp_path) != set()
    assert err.startswith("reopencheck: recovered ")
    page = (tmp_path / "report/summary.md").read_text(encoding="utf-8")
    assert all(name in page for name in cases(tmp_path))
    # Once only.
    last = begin(tmp_path, "check", "--examples", "1", "--seed", "1")
    assert json.loads(last.communicate(timeout=120)[0])["recovered"] == []
    assert last.returncode == 0


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.6])
def test_whoever_is_impatient_sees_no_traceback(tmp_path: Path, delay: float) -> None:
    process = begin(
        tmp_path, "check", "--examples", "5", script="from checker.cli import main; main()"
    )
    time.sleep(delay)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    out, err = process.communicate(timeout=120)
    # Before anything of ours runs, the interpreter ends by the signal itself.
    assert process.returncode in {130, -signal.SIGINT} or "site.py" in err or "<string>" in err
    if process.returncode == 130:
        assert "Traceback" not in err
        assert out == "" or json.loads(out)["interrupted"]


@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
@pytest.mark.parametrize("how", ["rules --json", "rules --outside", "options --driver raw"])
def test_a_result_that_cannot_be_printed_is_one_line(tmp_path: Path, where: str, how: str) -> None:
    words = f"'{sys.executable}' -c 'from checker.cli import main; main()' {how} {where}"
    done = subprocess.run(
        ["sh", "-c", words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("reopencheck: cannot write the result: ")
    assert done.stderr.count("\n") == 1
