# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of the system itself: what they print, or in a few words why there is nothing."""

from __future__ import annotations

import pytest

from targets.errors import TargetError
from targets.walls.unwalled import run_unwalled


def test_what_a_program_prints_and_how_it_ends() -> None:
    script = "cat; echo $WORD; printf '\\377' >&2; exit 3"
    done = run_unwalled(["sh", "-c", script], 20, {"WORD": "x"})
    assert (done.stdout, done.stderr, done.returncode) == ("x\n", "\N{REPLACEMENT CHARACTER}", 3)


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(TargetError, match=r"^sleep did not end within 0 s$"):
        run_unwalled(["sleep", "60"], 0.1)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(TargetError, match=r"^No such file or directory$"):
        run_unwalled(["/no/such/program"], 20)
