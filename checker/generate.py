# SPDX-License-Identifier: GPL-2.0-or-later
"""Examples from the machine: finished traces with what the model said of each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checker.diff import Generator, StopRun
from checker.judge import Example
from checker.oracle import observe
from strategies import machine_for, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import Outcome
    from model.dialect import Dialect
    from model.trace import Trace


def examples(dialect: Dialect, count: int, steps: int, seed: int) -> Generator:
    """``count`` examples of up to ``steps`` commands, the same ones for the same seed."""

    def generate(sink: Callable[[Example], None]) -> None:
        made = 0

        def on_trace(trace: Trace, outcomes: tuple[Outcome, ...]) -> None:
            nonlocal made
            sink(Example(trace, observe(outcomes, dialect)))
            made += 1
            if made >= count:
                # The engine also hands over examples that it cut short and does not count.
                raise StopRun

        run(machine_for(dialect, on_trace=on_trace), examples=count, steps=steps, seed_number=seed)

    return generate
