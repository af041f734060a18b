# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a machine: generation only, the same examples for the same seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

if TYPE_CHECKING:
    from strategies.machine import ReopenMachine


class Enough(BaseException):  # not an error, and nothing may mistake it for one
    """Raised by a callback of the machine to end the run; `run` takes it as the end."""


def run(machine: type[ReopenMachine], *, examples: int, steps: int, seed_number: int) -> None:
    """Generate ``examples`` traces of up to ``steps`` commands.

    Nothing is shrunk and nothing is read from or written to an example database: reduction
    works on recorded traces, and a case file is what is kept.
    """
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        phases=(Phase.generate,),
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(seed_number)(machine), settings=chosen)
    except Enough:
        return
