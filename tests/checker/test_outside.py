# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays and comparisons that leave the spec: neither agreed nor different."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.case import Case, from_finding
from checker.compare import compare_trace
from checker.differing import differences
from checker.distinguish import Search
from checker.judge import Example, finding, judge
from checker.parties import Answer
from checker.replay import compare_case, disturbed
from checker.verdicts import DisturbedError
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.rules import NOT_MODELLED
from model.values.trace import Observation, Reply, Trace
from reports.values import Finding, Step
from targets.deaths import Death
from targets.replay import Replay
from tests.checker.fakes import EMPTY_GRAPH, OK, oracle, refusal, trace

if TYPE_CHECKING:
    from checker.differing import Distinction

OUTSIDE: Reply = {"error": {"class": NOT_MODELLED, "desc": "reopencheck: speed is not modelled"}}
ODD = refusal("odd")


def seen(*replies: Reply) -> tuple[Observation, ...]:
    return tuple(Observation(reply, [], EMPTY_GRAPH) for reply in replies)


def case(*expected: Reply) -> Case:
    steps = tuple(Step({"execute": "x"}, each, None) for each in seen(*expected))
    return from_finding(Finding("divergence", "s", "t", (), steps, dialect="qemu-7.2"))


@pytest.mark.parametrize(
    ("expected", "got", "died", "verdict"),
    [
        ((OK, OK), (OK, OK), None, "agrees"),
        ((OK, OK), (OK, ODD), None, "differs"),
        ((OK, OK), (OK,), 1, "differs"),
        ((OK, OUTSIDE, OK), (OK, ODD, ODD), None, "outside the spec"),
        ((OK, OUTSIDE, OK), (OK, ODD), 2, "outside the spec"),
        ((OK, OUTSIDE, OK), (OK,), 1, "outside the spec"),
        ((OK, OUTSIDE, OK), (ODD, OK, OK), None, "differs"),
        ((OK, OUTSIDE, OK), (), 0, "differs"),
        ((OK, OK, OK), (OK, OUTSIDE, ODD), None, "outside the spec"),
        ((OK, OUTSIDE), (OK, OUTSIDE), None, "outside the spec"),
    ],
)
def test_the_verdict_on_a_replay(
    expected: tuple[Reply, ...], got: tuple[Reply, ...], died: int | None, verdict: str
) -> None:
    death = None if died is None else Death("crash", died, "SIGABRT")
    result = compare_case(case(*expected), "x", seen(*got), death)
    told = result.as_json()
    assert (result.verdict, told["verdict"]) == (verdict, verdict)
    assert told["agrees"] is result.agrees is (verdict == "agrees")
    if verdict == "outside the spec":
        assert told["outside"] == {"step": 1, "subject": "reopencheck: speed is not modelled"}


def test_nothing_is_said_of_what_was_disturbed() -> None:
    death = Death("disturbed", 1, "SIGKILL", detail="SIGKILL came from outside")
    assert compare_case(case(OK, OK), "x", seen(OK), death).verdict == "disturbed"
    assert compare_case(case(OK, OK), "x", seen(ODD), death).verdict == "differs"
    told = disturbed(case(OK, OK), "x", "three times").as_json()
    assert (told["verdict"], told["agrees"], told["disturbed"]) == (
        "disturbed",
        False,
        "three times",
    )


def answers(*replies: Reply, left: int | None = None) -> tuple[Answer, ...]:
    return tuple(
        Answer(each, "accepted", unmodelled=frozenset({"it"} if number == left else ()))
        for number, each in enumerate(seen(*replies))
    )


def test_parties_are_compared_up_to_where_one_leaves_the_spec() -> None:
    each = trace("a", "b")
    assert list(differences(each, answers(OK, ODD), answers(OK, OK)))
    for first, second in ((1, None), (None, 1), (1, 1)):
        pair = answers(OK, ODD, left=first), answers(OK, OK, left=second)
        assert list(differences(each, *pair)) == []
    assert list(differences(each, answers(ODD, OK, left=1), answers(OK, OK)))


class _Party:
    """A party whose runs show one thing after the other; the last for ever."""

    name, dialect, real = "x", QEMU_7_2, True

    def __init__(self, *runs: Any) -> None:
        self._runs = list(runs)

    def ask(self, _trace: Trace, *, fresh: bool = False) -> tuple[Answer, ...]:
        run = self._runs.pop(0) if len(self._runs) > 1 else self._runs[0]
        if isinstance(run, Exception):
            raise run
        answered: tuple[Answer, ...] = run
        return answered


GOOD = answers(OK, OK)


def search(*runs: Any) -> tuple[Search, list[Distinction]]:
    kept: list[Distinction] = []
    first: Any = _Party(GOOD)
    second: Any = _Party(*runs)
    looking = Search(first, second, kept.append)
    looking.take(trace("a", "b"), 0.0)
    return looking, kept


def test_a_comparison_counts_what_it_cannot_compare() -> None:
    looking, kept = search(answers(OK, ODD, left=1))
    assert (looking.outside, looking.disturbed, kept) == (1, 0, [])
    looking, kept = search(DisturbedError("each time"))
    assert (looking.outside, looking.disturbed, kept) == (0, 1, [])


def test_what_new_processes_show_else_is_a_difference_of_its_own() -> None:
    died = (attrs.evolve(GOOD[0], death="crash (SIGSEGV)"),)
    looking, kept = search(died, answers(OK, ODD))
    assert {each.mismatch.step for each in kept} == {1}
    assert looking.wobbles == 0
    looking, kept = search(died, GOOD)
    assert (kept, looking.wobbles) == ([], 1)


ODD_ANSWERS: list[Any] = [
    7,
    "x",
    [1],
    [[]],
    {"return": None},
    {"nodes": 5},
    {"nodes": [{"id": []}]},
    {"edges": [{"perm": [1, "a"]}]},
    {"edges": [{"parent": {}}]},
]


@pytest.mark.parametrize("part", ["nodes", "graph", "jobs", "exports"])
@pytest.mark.parametrize("odd", ODD_ANSWERS)
def test_an_answer_of_another_form_is_a_difference(part: str, odd: Any) -> None:
    each = trace("a")
    good = attrs.evolve(oracle(each)[0].observation, jobs=[], exports=[])
    expectation = attrs.evolve(oracle(each)[0], observation=good)
    changes: dict[str, Any] = {part: odd}
    shown = attrs.evolve(good, **changes)
    example = Example(each, (expectation,))
    found = judge(example, Replay((shown,)))
    assert found is not None
    assert found.path.startswith(part)
    kept = finding(example, Replay((shown,)), found, release="", dialect="qemu-7.2", seed=1)
    got = kept.steps[0].got
    assert got is not None
    assert getattr(got, part) in (None, odd)
    assert compare_trace((shown,), (shown,)) is None


@pytest.mark.parametrize("data", [None, [], 7, {"status": []}, {"id": {}}])
def test_an_event_of_another_form_is_a_difference(data: Any) -> None:
    event = {"event": "JOB_STATUS_CHANGE", "data": data}
    shown = attrs.evolve(seen(OK)[0], events=(event,))
    assert compare_trace(seen(OK), (shown,)) is not None
    assert compare_trace((shown,), (shown,)) is None
