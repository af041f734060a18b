# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts: shown again on a fresh process, judged for itself, and nobody else's doing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.compare.seen_again import DisturbedError, seen_again, shown_by, undisturbed
from checker.compare.verdict import Example, Expectation, judge, judge_answers
from checker.runs.diff import DiffOptions, Sides, run_diff
from checker.runs.mutants import choose_rules
from checker.runs.repeat import run_repeat
from checker.runs.tally import Tally
from checker.search.confirm import confirm as confirm_builds
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.rules import NOT_MODELLED
from model.values.trace import Observation, Trace
from targets.daemons.deaths import Death
from targets.daemons.pool import Finished
from targets.daemons.replay import Replay
from tests.checker.fakes import (
    EMPTY_GRAPH,
    OK,
    FakePool,
    answer,
    generator,
    model_answer,
    oracle,
    refusal,
    trace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reports.values import Summary

KILLED = Death("disturbed", 0, "SIGKILL", detail="SIGKILL came from outside")
CRASH = Death("crash", 0, "SIGSEGV")


# What is seen again


def again(*runs: str) -> Callable[[], str]:
    left = iter(runs)
    return lambda: next(left)


def same(old: str, new: str) -> bool:
    return old == new


@pytest.mark.parametrize(
    ("first", "runs", "sure"),
    [
        ("a", ["a"], "a"),
        ("a", ["", "", "a"], "a"),
        ("a", ["", "", ""], ""),
        ("a", ["b", "b"], "b"),
        ("a", ["b", "a"], "a"),
        ("a", ["b", "c", "d"], ""),
        ("a", ["ab", "ab"], "ab"),
        ("a", ["ab", "", ""], "a"),
        ("ab", ["a"], "a"),
        ("", ["a", "a"], "a"),
    ],
)
def test_what_two_runs_show_counts(first: str, runs: list[str], sure: str) -> None:
    assert "".join(seen_again(first, again(*runs), same)) == sure


def test_a_disturbed_run_is_made_again() -> None:
    runs = iter([Replay((), KILLED), Replay((), KILLED), Replay((), CRASH)])
    assert undisturbed(lambda _: next(runs))(trace("a")).death == CRASH
    with pytest.raises(DisturbedError, match="3 times in a row: SIGKILL came from outside"):
        undisturbed(lambda _: Replay((), KILLED))(trace("a"))


def test_a_limit_of_ours_is_met_once() -> None:
    runs = iter([Replay((), attrs.evolve(KILLED, limit=True, detail="it takes too much"))])
    with pytest.raises(DisturbedError, match="a limit was met: it takes too much"):
        undisturbed(lambda _: next(runs))(trace("a"))


def test_what_dies_is_shown_by_a_fresh_process() -> None:
    whole, short = answer(trace("a", "b"), model_answer), Replay((), CRASH)
    assert len(shown_by(lambda _: short, lambda _: whole)(trace("a", "b"))) == 2
    assert len(shown_by(lambda _: whole, lambda _: short)(trace("a", "b"))) == 2


# A run of diff whose daemons die as they are told


class Daemons:
    """What runs of a trace show, one after the other: the pool's, then those of fresh processes.

    The last goes on for ever.
    """

    def __init__(self, *runs: Replay) -> None:
        self._runs = list(runs)
        self.asked = 0

    def __call__(self, _trace: Trace) -> Replay:
        self.asked += 1
        return self._runs.pop(0) if len(self._runs) > 1 else self._runs[0]


class Pool:
    def __init__(self, daemons: Daemons) -> None:
        self._daemons = daemons
        self.sent: list[Trace] = []

    def submit(self, each: Trace, token: Example) -> tuple[Finished[Example], ...]:
        self.sent.append(each)
        return (Finished(token, each, self._daemons(each)),)

    def drain(self) -> Iterator[Finished[Example]]:
        return iter(())


def shows(*words: str, death: Death | None = None) -> Replay:
    """What a run shows that answers so, and dies then."""
    seen = tuple(
        Observation(OK if word == "ok" else refusal(word), [], EMPTY_GRAPH) for word in words
    )
    lost = None if death is None else attrs.evolve(death, step=len(words))
    return Replay(seen, lost)


GOOD = shows("ok", "ok", "ok")
ODD = shows("ok", "it is odd", "ok")


def diff(*runs: Replay, names: tuple[str, ...] = ("a", "b", "c"), **options: Any) -> Summary:
    daemons = Daemons(*runs)
    sides = Sides(oracle, Pool(daemons), daemons, daemons)
    tally = Tally("diff", QEMU_7_2, seed=1)
    options = {"reduce_replays": 0, **options}
    summary = run_diff(tally, generator([names]), sides, DiffOptions(**options))
    assert (tally.outside, tally.disturbed) == (0, 0)
    return summary


def kinds(summary: Summary) -> list[str]:
    return [finding.kind for finding in summary.findings]


def test_one_killed_in_mid_trace_is_asked_again() -> None:
    killed = shows("ok", death=KILLED)
    assert kinds(diff(killed, GOOD)) == []
    assert kinds(diff(killed, ODD)) == ["divergence"]
    assert kinds(diff(killed, killed, killed, ODD)) == ["divergence"]


def test_what_a_fresh_process_shows_else_is_judged_for_itself() -> None:
    """One that was ended in mid-trace, so that it looks like a crash, hides a real difference."""
    crashed = shows("ok", death=CRASH)
    summary = diff(crashed, ODD)
    assert kinds(summary) == ["divergence"]
    assert summary.unconfirmed == 0
    assert kinds(diff(crashed, ODD, GOOD, GOOD)) == []


def test_a_death_that_does_not_come_again_is_told() -> None:
    summary = diff(shows("ok", death=CRASH), GOOD)
    assert (kinds(summary), summary.unconfirmed, summary.failed) == ([], 1, False)
    assert "not on a fresh process" in summary.notes[0]
    hang = diff(shows("ok", death=Death("hang", 0)), GOOD)
    assert (kinds(hang), hang.unconfirmed) == ([], 1)


def test_a_difference_that_comes_on_one_of_several_fresh_processes_counts() -> None:
    assert kinds(diff(ODD, GOOD, GOOD, ODD)) == ["divergence"]
    assert kinds(diff(ODD, GOOD, GOOD, GOOD)) == []


def test_a_difference_before_a_death_is_one_of_its_own() -> None:
    both = shows("ok", "it is odd", death=CRASH)
    assert sorted(kinds(diff(both))) == ["crash", "divergence"]
    # A crash that was somebody's doing takes nothing from it.
    assert kinds(diff(both, ODD)) == ["divergence"]


def test_what_speaks_no_qmp_is_a_finding_of_its_own_kind() -> None:
    said = Death("protocol", 0, detail="it says something that is not JSON: 17", stderr=())
    summary = diff(shows("ok", death=said))
    assert kinds(summary) == ["protocol"]
    assert summary.crashes == 1
    (finding,) = summary.findings
    assert finding.signature == "b | protocol | it says something that is not JSON | "
    assert "17" in finding.title


def test_one_that_is_killed_each_time_is_counted_and_the_run_goes_on() -> None:
    killed = Daemons(shows("ok", death=KILLED))
    tally = Tally("diff", QEMU_7_2, seed=1)
    sides = Sides(oracle, Pool(killed), killed, killed)
    summary = run_diff(tally, generator([("a", "b"), ("b", "a")]), sides, DiffOptions())
    assert (tally.disturbed, summary.examples, summary.findings) == (2, 2, ())
    assert (summary.crashes, summary.unconfirmed) == (0, 0)
    assert killed.asked == 2 * (1 + 3)
    assert all("SIGKILL came from outside" in note for note in summary.notes)


@pytest.mark.parametrize("lost", [KILLED, CRASH])
def test_reduction_is_not_spoilt(lost: Death) -> None:
    """Every second run of the reduction is ended by somebody."""
    times = 0

    def daemon(each: Trace) -> Replay:
        nonlocal times
        times += 1
        if times % 2:
            return Replay((), attrs.evolve(lost, step=0))
        return answer(each, lambda c: refusal("odd") if c["execute"] == "b" else model_answer(c))

    def whole(each: Trace) -> Replay:
        return answer(each, lambda c: refusal("odd") if c["execute"] == "b" else model_answer(c))

    tally = Tally("diff", QEMU_7_2, seed=1)
    summary = run_diff(
        tally,
        generator([("a", "c", "b", "d")]),
        Sides(
            oracle, FakePool(lambda c: whole(Trace((), (c,))).observations[0].reply), *[daemon] * 2
        ),
        DiffOptions(),
    )
    (finding,) = summary.findings
    assert [step.command["execute"] for step in finding.steps] == ["b"]


def test_a_smaller_trace_that_was_ended_is_asked_for_on_a_fresh_process() -> None:
    def how(command: dict[str, Any]) -> Any:
        return refusal("odd") if command["execute"] == "b" else model_answer(command)

    sides = Sides(
        oracle, FakePool(how), lambda _: Replay((), CRASH), lambda each: answer(each, how)
    )
    tally = Tally("diff", QEMU_7_2, seed=1)
    summary = run_diff(tally, generator([("a", "c", "b", "d")]), sides, DiffOptions())
    (finding,) = summary.findings
    assert [step.command["execute"] for step in finding.steps] == ["b"]


def test_a_judge_who_sees_no_deaths_is_not_misled_by_one() -> None:
    summary = diff(shows("ok", death=CRASH), ODD, judge=judge_answers)
    assert kinds(summary) == ["divergence"]
    assert kinds(diff(shows("ok", death=CRASH), GOOD, judge=judge_answers)) == []


# Outside the spec


def unmodelled(each: Trace, step: int) -> Example:
    """An example that leaves the spec at a step."""
    answers = list(oracle(each))
    error = {"error": {"class": NOT_MODELLED, "desc": "reopencheck: it is not modelled"}}
    seen = Observation(error, [], EMPTY_GRAPH)
    answers[step] = Expectation(seen, unmodelled=frozenset({"it"}))
    return Example(each, tuple(answers))


def leaving(sides: Sides, step: int, **options: Any) -> tuple[Tally, Summary]:
    tally = Tally("diff", QEMU_7_2, seed=1)
    example = unmodelled(trace("a", "odd", "b", "c"), step)
    options = {"reduce_replays": 0, **options}
    return tally, run_diff(tally, lambda sink: sink(example), sides, DiffOptions(**options))


@pytest.mark.parametrize("lost", [None, CRASH])
def test_from_where_a_trace_leaves_the_spec_nothing_is_judged(lost: Death | None) -> None:
    def how(command: dict[str, Any]) -> Any:
        if command["execute"] in {"b", "c"}:
            return lost or refusal("anything")
        return refusal("it is odd") if command["execute"] == "odd" else OK

    pool = FakePool(how)
    sides = Sides(oracle, pool, *[lambda each: answer(each, how)] * 2)
    tally, summary = leaving(sides, 2)
    assert (tally.outside, kinds(summary)) == (1, ["divergence"])
    assert summary.commands == 2
    tally, summary = leaving(sides, 1)
    assert (tally.outside, kinds(summary), summary.unconfirmed) == (1, [], 0)


def test_what_is_outside_is_not_even_sent() -> None:
    daemons = Daemons(shows("ok", "ok"))
    pool = Pool(daemons)
    leaving(Sides(oracle, pool, daemons, daemons), 2)
    assert [len(each.commands) for each in pool.sent] == [2]


def test_judging_ends_where_the_spec_does() -> None:
    example = unmodelled(trace("a", "b", "c"), 1)
    assert judge(example, shows("ok", "odd", death=CRASH)) is None
    assert judge(example, ODD) is None
    found = judge(example, shows("odd", "ok", "ok"))
    assert found is not None
    assert found.step == 0
    found = judge(example, shows(death=CRASH))
    assert found is not None
    assert found.kind == "crash"


def test_an_end_that_was_meant_for_later_is_not_missed() -> None:
    """Neither after the trace has left the spec, nor where somebody ended the daemon before."""
    example = unmodelled(trace("a", "b", "c"), 1)
    last = attrs.evolve(example.expectations[2], ended=True)
    example = attrs.evolve(example, expectations=(*example.expectations[:2], last))
    assert judge(example, GOOD) is None
    assert judge(Example(example.trace, oracle(example.trace)), shows("ok", death=KILLED)) is None
    found = judge(Example(example.trace, oracle(example.trace)), shows("odd", death=KILLED))
    assert found is not None
    assert found.kind == "divergence"


def test_what_a_target_cannot_do_is_outside_too() -> None:
    each = trace("a", "b")
    error = {"error": {"class": NOT_MODELLED, "desc": "reopencheck: too long to be read"}}
    seen = Replay((Observation(OK, [], EMPTY_GRAPH), Observation(error, [], EMPTY_GRAPH)))
    assert judge(Example(each, oracle(each)), seen) is None


def test_rules_of_what_is_outside_are_no_mutants() -> None:
    assert all(rule.kind in {"guard", "effect"} for rule in choose_rules(QEMU_7_2, ()))


# The same for repeat


def repeat(*runs: Replay) -> tuple[Tally, Summary]:
    daemons = Daemons(*runs)
    tally = Tally("repeat", QEMU_7_2, seed=1)
    sides = Sides(oracle, Pool(daemons), daemons, daemons)
    return tally, run_repeat(tally, generator([("a", "b", "c")]), sides, reduce_replays=0)


@pytest.mark.parametrize("first", [True, False])
def test_one_that_was_ended_once_is_no_wobble(first: bool) -> None:
    crashed = shows("ok", death=CRASH)
    _, summary = repeat(*((crashed, GOOD) if first else (GOOD, crashed)), GOOD)
    assert (summary.findings, summary.unconfirmed, summary.divergences) == ((), 1, 0)
    _, summary = repeat(GOOD, crashed, GOOD, crashed, GOOD)
    assert summary.divergences == 1


def test_disturbed_runs_are_no_wobble() -> None:
    killed = shows("ok", death=KILLED)
    tally, summary = repeat(killed, GOOD, GOOD)
    assert (summary.findings, tally.disturbed) == ((), 0)
    tally, summary = repeat(killed)
    assert (summary.findings, tally.disturbed) == ((), 1)


def test_a_trace_is_repeated_up_to_where_it_leaves_the_spec() -> None:
    daemons = Daemons(shows("ok", "ok"))
    pool = Pool(daemons)
    tally = Tally("repeat", QEMU_7_2, seed=1)
    example = unmodelled(trace("a", "b", "c"), 2)
    run_repeat(tally, lambda sink: sink(example), Sides(oracle, pool, daemons, daemons))
    assert [len(each.commands) for each in pool.sent] == [2, 2]
    assert tally.outside == 1


def test_builds_that_are_disturbed_confirm_nothing_and_deny_nothing() -> None:
    class Disturbed:
        name = "7.2.22"

        def replay(self, _written: Trace) -> Replay:
            raise DisturbedError("the daemon was disturbed 3 times in a row")

    class Found:
        trace = Trace((), ({"execute": "query-version"},))

    from checker.search.subjects import Model  # noqa: PLC0415

    found: Any = Found()
    daemon: Any = Disturbed()
    told = confirm_builds(found, ((Model(QEMU_7_2), daemon),))
    assert (told.on, told.problems) == ((), ())
    assert "is not asked" in told.silent[0]
