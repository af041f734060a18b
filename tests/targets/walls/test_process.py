# SPDX-License-Identifier: GPL-2.0-or-later
"""What is needed to run a program at all, and what a process and all below it use."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from targets.errors import TargetError
from targets.walls.launching import runnable
from targets.walls.process import descriptor_to_pass, in_use, run
from targets.walls.standing import EVERYTHING, trusting

if TYPE_CHECKING:
    from pathlib import Path

NONE = trusting((EVERYTHING,))
TAKES_MEMORY = "import sys; held = bytearray(1 << 25); print(flush=True); sys.stdin.read()"


@pytest.mark.parametrize("soft", [10, 20, 63])
def test_too_few_descriptors_are_told(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, 4096))
    says = rf"\Aonly {soft} files may be open at once \(ulimit -n\): allow 64 or more\Z"
    with pytest.raises(TargetError, match=says):
        descriptor_to_pass(0)
    with pytest.raises(TargetError, match=says):
        run((sys.executable, "--version"), NONE, 10)


@pytest.mark.parametrize("soft", [64, -1])
def test_enough_descriptors_are_enough(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, -1))
    descriptor = descriptor_to_pass(1)
    os.close(descriptor)
    assert descriptor >= 20


def test_what_is_no_file_cannot_be_run(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o755)
    # Opening it would wait for somebody who writes to it.
    assert runnable(str(pipe)) == "Not a regular file"
    broken = tmp_path / "a\nb"
    broken.write_text("#!/bin/sh\n")
    broken.chmod(0o755)
    assert runnable(str(broken)) == "A line break in its name"


def test_memory_of_all_below_counts() -> None:
    words = [sys.executable, "-c", TAKES_MEMORY]
    shell = ["sh", "-c", '"$@"; exit 0', "sh", *words]
    with subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert in_use(process.pid) > 1 << 25
    assert in_use(process.pid) == 0
