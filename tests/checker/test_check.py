# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of the model alone, with laws that break on purpose."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from checker.case import load
from checker.check import run_check
from checker.generate import checked, examples
from checker.laws import ANSWERS, Violation, first_violation, keep_violation, no_law, signature
from checker.settling import is_wait
from checker.tally import Amount, Tally
from model import Monitor, Outcome, step
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.values.trace import ImageSpec, Observation, Trace
from strategies.commands import build

if TYPE_CHECKING:
    from pathlib import Path

    from checker.generate import Checked
    from checker.judge import Example
    from checker.laws import Law
    from model import BlockState, Dialect
    from model.values.trace import Command
    from reports.values import Summary
    from strategies.scene import Scene

AMOUNT = Amount(12, 10, 3)


def no_qcow2(_before: BlockState, _command: Command, outcome: Outcome) -> list[tuple[str, str]]:
    """A law that nodes of one driver break."""
    found = [n.name for n in outcome.state.nodes.values() if n.driver == "qcow2"]
    return [("law.no-qcow2", f"node '{found[0]}' is qcow2")] if found else []


def run(law: Law, cases: Path | None = None, amount: Amount = AMOUNT) -> Summary:
    tally = Tally("check", QEMU_7_2, seed=amount.seed, cases=cases)
    return run_check(tally, checked(QEMU_7_2, amount, law), law)


def test_a_run_without_laws_holds() -> None:
    summary = run(no_law)
    assert not summary.failed
    assert summary.examples == 12
    assert summary.commands == summary.accepted + summary.refused > 12
    assert summary.rules_reached > 0
    assert summary.unreached


def test_the_same_seed_makes_the_same_examples() -> None:
    def made(seed: int) -> list[Trace]:
        found: list[Trace] = []

        def sink(example: Example) -> None:
            found.append(example.trace)

        examples(QEMU_7_2, Amount(5, 10, seed))(sink)
        return found

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_examples_and_checked_examples_are_the_same() -> None:
    one: list[Trace] = []
    two: list[Trace] = []

    def first(example: Example) -> None:
        one.append(example.trace)
        assert len(example.expectations) == len(example.trace.commands)
        following = [*map(is_wait, example.trace.commands[1:]), False]
        asked = [e.observation.nodes is not None for e in example.expectations]
        assert asked == [not waited for waited in following]

    def second(example: Checked) -> None:
        two.append(example.example.trace)

    examples(QEMU_7_2, AMOUNT)(first)
    checked(QEMU_7_2, AMOUNT, no_law)(second)
    assert one == two


def test_a_violation_is_a_reduced_case(tmp_path: Path) -> None:
    summary = run(no_qcow2, tmp_path, Amount(40, 20, 4))
    assert summary.failed
    assert summary.violations > 1
    (finding, *_) = summary.findings
    assert finding.kind == "property"
    assert len(finding.steps) <= 2
    assert finding.signature == "blockdev-add | property | law.no-qcow2 | node '*' is qcow2"
    assert finding.case_file is not None
    case = load(tmp_path / finding.case_file)
    assert case.kind == "property"
    assert all(step.expected is not None for step in case.steps)
    assert sum(f.occurrences for f in summary.findings) == summary.violations


def test_an_exception_of_the_model_is_a_finding_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(state: BlockState, command: Command, dialect: Dialect) -> Outcome:
        if command.get("execute") == "block_resize":
            raise KeyError("gone")
        return step(state, command, dialect)

    monkeypatch.setattr("strategies.machine.step", breaks)
    monkeypatch.setattr("model.monitor.step", breaks)
    summary = run(no_law, tmp_path, Amount(60, 30, 5))
    assert summary.examples == 60
    assert summary.violations > 1
    (finding,) = summary.findings
    assert finding.signature == f"block_resize | property | {ANSWERS} | KeyError: 'gone'"
    assert [step.command["execute"] for step in finding.steps] == ["block_resize"]
    assert finding.steps[0].expected is None


def test_an_exception_of_the_queries_cuts_the_example_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observe = Monitor.observe

    def breaks(self: Monitor) -> Observation:
        if len(self.state.nodes) > 6:
            raise KeyError("gone")
        return observe(self)

    monkeypatch.setattr(Monitor, "observe", breaks)
    made: list[Example] = []
    examples(QEMU_7_2, AMOUNT)(made.append)
    assert len(made) == AMOUNT.examples
    assert {len(e.trace.commands) - len(e.expectations) for e in made} == {0, 1}
    tally = Tally("check", QEMU_7_2, seed=1)
    broken = next(e for e in made if len(e.trace.commands) > len(e.expectations))
    violation = first_violation(broken.trace, QEMU_7_2, no_law)
    assert violation == Violation(len(broken.expectations), ANSWERS, "KeyError: 'gone'")
    keep_violation(tally, broken.trace, violation, no_law, 50)
    (finding,) = tally.summary().findings
    assert finding.kind == "property"


def test_an_interrupt_that_somebody_swallows_is_not_lost() -> None:
    seen = 0

    def swallows(sink: Any) -> None:
        def deaf(example: Checked) -> None:
            nonlocal seen
            seen += 1
            if seen == 2:
                with contextlib.suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            sink(example)

        checked(QEMU_7_2, AMOUNT, no_law)(deaf)

    tally = Tally("check", QEMU_7_2, seed=1)
    summary = run_check(tally, swallows, no_law)
    assert (summary.interrupted, summary.examples) == (True, 1)


def test_strategies_may_stumble_over_a_mutant_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(scene: Scene, kind: str, **how: Any) -> Command:
        if kind == "delete" and len(scene.state.nodes) == 9:
            raise ValueError("an empty choice")
        return build(scene, kind, **how)

    made: list[Example] = []
    monkeypatch.setattr("strategies.machine.build", breaks)
    with pytest.raises(ValueError, match="an empty choice"):
        examples(QEMU_7_2, Amount(60, 20, 3))(made.append)
    made.clear()
    examples(QEMU_7_2, Amount(60, 20, 3), mutant=True)(made.append)
    assert len(made) == 60


def test_first_violation() -> None:
    add: Command = {
        "execute": "blockdev-add",
        "arguments": {"driver": "null-co", "node-name": "n7"},
    }

    def wanted(_before: BlockState, _command: Command, outcome: Outcome) -> list[tuple[str, str]]:
        return [("law", f"{name} is there") for name in outcome.state.nodes]

    trace = Trace((ImageSpec("hd0.raw", "raw", 1),), ({"execute": "query-block"}, add))
    found = first_violation(trace, QEMU_7_2, wanted)
    assert found == Violation(1, "law", "n7 is there")
    assert signature(trace, found) == "blockdev-add | property | law | * is there"
    assert first_violation(trace, QEMU_7_2, no_law) is None


def test_an_error_of_ours_is_not_taken_for_a_failing_example() -> None:
    def breaks(_tally: Tally) -> None:
        raise RuntimeError("of ours")

    tally = Tally("check", QEMU_7_2, seed=1)
    with pytest.raises(RuntimeError, match="of ours"):
        run_check(tally, checked(QEMU_7_2, AMOUNT, no_law), no_law, progress=breaks)


def test_an_interrupt_keeps_what_was_found() -> None:
    def generate(sink: Any) -> None:
        def two(example: Checked) -> None:
            sink(example)
            if tally.examples == 2:
                raise KeyboardInterrupt

        checked(QEMU_7_2, AMOUNT, no_law)(two)

    tally = Tally("check", QEMU_7_2, seed=1)
    summary = run_check(tally, generate, no_law)
    assert (summary.interrupted, summary.examples) == (True, 2)


def test_the_budget_ends_the_run() -> None:
    tally = Tally("check", QEMU_7_2, seed=1)
    summary = run_check(tally, checked(QEMU_7_2, Amount(10**6, 10, 1), no_law), no_law, budget=0.2)
    assert 0 < summary.examples < 10**6
