# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutants against a fake daemon: only what the whole spec gets right catches one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.diff import Sides
from checker.errors import CheckerError
from checker.judge import Example, Expectation
from checker.mutants import Mutant, MutantRun, choose_rules, run_mutants
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.values.trace import Command, Observation, Reply, Trace
from targets.deaths import Death
from tests.checker.fakes import OK, FakePool, answer, model_answer, refusal, trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from checker.judge import Oracle
    from model.release.dialect import Dialect

RULES = QEMU_7_2.rules()
FIRST, SECOND, THIRD = (rule.id for rule in RULES[:3])
TRACES = [("a", "bad"), ("odd",), ("deadly",), ("a",), ("bad", "a"), ("b",)]


def daemon(command: Command) -> Reply | Death:
    """Refuses ``bad`` as the model does, and ``odd`` as it does not; dies of ``deadly``."""
    if command["execute"] == "deadly":
        return Death("crash", 0, signal="SIGABRT")
    return refusal("it is odd") if command["execute"] == "odd" else model_answer(command)


def oracle_of(dialect: Dialect) -> Oracle:
    """Without the first rule ``bad`` is accepted; the others decide nothing."""

    def ask(trace: Trace) -> tuple[Expectation, ...]:
        found = []
        for command in trace.commands:
            reply = OK if FIRST in dialect.absent else model_answer(command)
            found.append(Expectation(Observation(reply, [], {"nodes": [], "edges": []})))
        return tuple(found)

    return ask


def run(*rules: str, generator: Callable[[Dialect], Any] | None = None) -> MutantRun:
    def generate(dialect: Dialect) -> Any:
        def make(sink: Any) -> None:
            for names in TRACES:
                each = trace(*names)
                sink(Example(each, oracle_of(dialect)(each)))

        return make

    pool = FakePool(daemon)

    def sides(dialect: Dialect) -> Sides:
        def replay(each: Trace) -> Any:
            return answer(each, daemon)

        return Sides(oracle_of(dialect), pool, replay, replay)

    told: list[Mutant] = []
    result = run_mutants(
        QEMU_7_2,
        choose_rules(QEMU_7_2, rules),
        generator or generate,
        sides,
        seed=1,
        release="7.2.22",
        progress=told.append,
    )
    assert tuple(told) == result.mutants
    return result


def test_one_is_caught_and_others_survive() -> None:
    result = run(FIRST, SECOND, FIRST)
    caught, survivor = result.mutants
    assert (caught.rule, caught.caught) == (FIRST, 1)
    assert caught.shown == "bad: reply: expected success, got 'it is bad'"
    assert (survivor.rule, survivor.caught, survivor.examples) == (SECOND, None, len(TRACES))
    assert result.survivors == (SECOND,)
    assert result.as_json()["mutants_caught"] == 1


def test_one_that_nobody_could_judge_has_not_survived() -> None:
    """The daemon is ended from outside each time: that says nothing of the rule."""
    ended = Death("disturbed", 0, detail="SIGKILL from outside")

    def generate(dialect: Dialect) -> Any:
        def make(sink: Any) -> None:
            each = trace("a")
            sink(Example(each, oracle_of(dialect)(each)))

        return make

    def sides(dialect: Dialect) -> Sides:
        def replay(each: Trace) -> Any:
            return answer(each, lambda _: ended)

        return Sides(oracle_of(dialect), FakePool(lambda _: ended), replay, replay)

    rules = choose_rules(QEMU_7_2, (SECOND,))
    result = run_mutants(
        QEMU_7_2, rules, generate, sides, seed=1, release="7.2.22", progress=lambda _: None
    )
    assert result.survivors == ()
    assert result.unknown == (SECOND,)
    assert result.as_json()["mutants_caught"] == 0
    assert [each.disturbed for each in result.mutants] == [1]


def test_an_interrupt_keeps_the_finished_ones() -> None:
    def generate(dialect: Dialect) -> Any:
        def make(sink: Any) -> None:
            if SECOND in dialect.absent:
                raise KeyboardInterrupt
            each = trace("bad")
            sink(Example(each, oracle_of(dialect)(each)))

        return make

    result = run(FIRST, SECOND, THIRD, generator=generate)
    assert result.interrupted
    assert [m.rule for m in result.mutants] == [FIRST]


def test_a_model_that_never_ends_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checker.mutants._MOST_SECONDS", 1)

    def generate(_dialect: Dialect) -> Any:
        def make(_sink: Any) -> None:
            while True:
                pass

        return make

    (mutant,) = run(FIRST, generator=generate).mutants
    assert mutant.caught is not None
    assert mutant.shown == "the model does not end"


def test_choosing_rules() -> None:
    every = choose_rules(QEMU_7_2, ())
    assert set(every) == {r for r in RULES if not r.unreachable and r.kind != "hazard"}
    family = choose_rules(QEMU_7_2, ("reopen.*", "reopen.*"))
    assert family
    assert all(rule.id.startswith("reopen.") for rule in family)
    assert len(set(family)) == len(family)
    for wrong in ("no.such", "nosuch.*"):
        with pytest.raises(CheckerError, match="has no rule"):
            choose_rules(QEMU_7_2, (wrong,))


def test_the_json_of_a_mutant_is_plain() -> None:
    mutant = Mutant("a", "guard", 3, None, 0.5)
    assert mutant.as_json() == attrs.asdict(mutant)
