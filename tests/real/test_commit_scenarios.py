# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec and the real daemon agree on scenarios with commits and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checker.cases.waits import with_waits
from checker.compare.oracle import expect
from checker.compare.traces import compare_trace
from model import find_dialect
from tests.real.job_scenarios_commit import COMMIT_SCENARIOS

if TYPE_CHECKING:
    from targets.daemons.target import Target

DIALECT = find_dialect("qemu-7.2")


@pytest.mark.parametrize("name", COMMIT_SCENARIOS)
def test_spec_and_daemon_agree(shared: Target, name: str) -> None:
    trace = with_waits(COMMIT_SCENARIOS[name], DIALECT)
    expectations = expect(trace, DIALECT)
    met = [number for number, each in enumerate(expectations) if each.hazards]
    # A scenario may end in a defect, perhaps of the daemon itself; what came before still counts.
    end = met[0] if met else len(expectations)
    seen = shared.run(trace)
    assert seen.death is None or met, f"{name}: {trace.commands[min(seen.death.step, 99)]}"
    expected = [each.observation for each in expectations[:end]]
    found = compare_trace(expected, seen.observations[:end])
    assert found is None, f"{name}, step {found.step}: {trace.commands[found.step]}\n{found}"
