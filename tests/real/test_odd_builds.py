# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that are wrappers with words of their own, and that stop in the middle of `options`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from targets.builds.binaries import find_driven
from targets.daemons.daemon import Daemon, StartError

ROOT = Path(__file__).parents[2]
WRAPPER = """\
#!/bin/sh
# Has a version, prints what no terminal should see, and never starts.
case "$*" in *--version) exec qemu-storage-daemon --version ;; esac
printf '\\033[31mred\\n' >&2
exit 3
"""
ENDS_LATER = """\
from checker.search import option_trials
from checker.cli import main
from targets.errors import TargetError

whole = option_trials.trials

def some(*arguments):
    for number, each in enumerate(whole(*arguments)):
        if number == 3:
            raise TargetError("the daemon does not start any more")
        yield each

option_trials.trials = some
main()
"""

pytestmark = pytest.mark.real


def test_a_wrapper_that_does_not_start_is_called_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "wrapper"
    path.write_text(WRAPPER, encoding="utf-8")
    path.chmod(0o755)
    build = find_driven(f"{path} never")
    assert build.name == str(path)
    with pytest.raises(StartError, match="wrapper does not start: "):
        Daemon(build)


def test_a_daemon_that_says_nothing_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "silent"
    version = "exec qemu-storage-daemon --version"
    path.write_text(f'#!/bin/sh\ncase "$1" in --version) {version};; esac\nexec sleep 600\n')
    path.chmod(0o755)
    monkeypatch.setattr("targets.daemons.daemon._START_WITHIN", 0.2)
    with pytest.raises(StartError, match=r"silent does not start: it does not answer\Z"):
        Daemon(find_driven(str(path)))


def options(tmp_path: Path, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, "options", "--driver", "raw", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("subject", ["qemu-7.2", "qemu-storage-daemon"])
def test_what_was_tried_before_an_error_is_told(tmp_path: Path, subject: str) -> None:
    done = options(tmp_path, ENDS_LATER, subject, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 2
    assert len(found["trials"]) + len(found["untried"]) == 3
    assert found["trouble"] == "the daemon does not start any more"
    assert done.stderr == "reopencheck: the daemon does not start any more\n"
    people = options(tmp_path, ENDS_LATER, subject)
    assert "ended early: this is what was found so far" in people.stdout


def test_a_build_that_gives_no_schema_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrapper"
    path.write_text(WRAPPER, encoding="utf-8")
    path.chmod(0o755)
    done = options(tmp_path, "from checker.cli import main; main()", f"{path} never", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    # Nothing of what the build prints itself, and no exception.
    assert done.stderr == f"reopencheck: {path} closed the connection\n"


def test_the_emulator_is_asked_in_its_own_words(tmp_path: Path) -> None:
    done = options(tmp_path, "from checker.cli import main; main()", "qemu-system-x86_64", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"]
