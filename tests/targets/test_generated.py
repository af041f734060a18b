# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate refuses nothing that the generator writes, and nothing that is kept in ``cases/``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checker.case import load
from model.release.dialects import DIALECTS
from model.release.dialects.series_v1 import SERIES_V1
from model.release.schema import SchemaError
from strategies import Enough, machine_for, run
from strategies.choosing import RandomChooser
from strategies.malforming import malformed
from targets.containment import check_command, check_trace
from tests.real.job_scenarios_commit import COMMIT_SCENARIOS
from tests.real.job_scenarios_mirror import MIRROR_SCENARIOS
from tests.real.scenarios import SCENARIOS

if TYPE_CHECKING:
    from model import Outcome
    from model.release.dialect import Dialect
    from model.values.trace import Command, Trace

EXAMPLES = 60
MALFORMED = 8
"""How often each command is broken anew."""
CASES = sorted((Path(__file__).parents[2] / "cases").rglob("*.json"))


def generated(dialect: Dialect, examples: int, seed: int) -> list[Trace]:
    traces: list[Trace] = []

    def keep(trace: Trace, _outcomes: tuple[Outcome, ...]) -> None:
        traces.append(trace)
        if len(traces) >= examples:
            raise Enough

    machine = machine_for(dialect, on_step=lambda *_: None, on_trace=keep)
    run(machine, examples=examples, steps=40, seed_number=seed)
    return traces


def is_whole(command: Command, dialect: Dialect) -> bool:
    """Whether the release would look at the command's arguments, and there are any."""
    arguments = command.get("arguments")
    if not isinstance(arguments, dict) or not arguments or command.get("execute") == "device_add":
        return False
    try:
        dialect.schema.check(str(command.get("execute")), arguments)
    except SchemaError:
        return False
    return True


@pytest.mark.parametrize(
    "dialect", [*DIALECTS.values(), SERIES_V1], ids=lambda dialect: dialect.name
)
def test_what_the_generator_writes_passes(dialect: Dialect) -> None:
    """So do its commands when any place in them is broken."""
    traces = generated(dialect, EXAMPLES, seed=20)
    assert len(traces) == EXAMPLES
    choose = RandomChooser(1)
    broken = 0
    for trace in traces:
        check_trace(trace)
        for command in trace.commands:
            if is_whole(command, dialect):
                for _ in range(MALFORMED):
                    check_command(1, malformed(choose, copy.deepcopy(command)))
                    broken += 1
    assert broken > EXAMPLES * MALFORMED


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_what_is_kept_passes(path: Path) -> None:
    check_trace(load(path).trace())


def test_what_the_real_tests_send_passes() -> None:
    scenarios = [*SCENARIOS.values(), *COMMIT_SCENARIOS.values(), *MIRROR_SCENARIOS.values()]
    assert len(scenarios) > 100
    for trace in scenarios:
        check_trace(trace)
