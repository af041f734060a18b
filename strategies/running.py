# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a machine: generation only, the same examples for the same seed."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

if TYPE_CHECKING:
    from strategies.machine import ReopenMachine


class Enough(BaseException):  # not an error, and nothing may mistake it for one
    """Raised by a callback of the machine to end the run; `run` takes it as the end."""


_AT_ONCE = 10
"""Examples per start of the engine.

After its tenth valid example the engine makes five mutations of each, which repeat most of
it: four of five commands had then been there before (docs/decisions/0002-generation.md).
"""


def run(machine: type[ReopenMachine], *, examples: int, steps: int, seed_number: int) -> None:
    """Generate ``examples`` traces of up to ``steps`` commands.

    Nothing is shrunk and nothing is read from or written to an example database: reduction
    works on recorded traces, and a case file is what is kept.
    """
    seeds = Random(seed_number)  # noqa: S311  # for tests, not for secrets
    try:
        for made in range(0, examples, _AT_ONCE):
            chosen = settings(
                max_examples=min(_AT_ONCE, examples - made),
                stateful_step_count=steps,
                phases=(Phase.generate,),
                database=None,
                deadline=None,
                derandomize=False,
                print_blob=False,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            )
            run_state_machine_as_test(seed(seeds.getrandbits(64))(machine), settings=chosen)
    except Enough:
        return
