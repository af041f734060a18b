# SPDX-License-Identifier: GPL-2.0-or-later
"""Running everything twice, against fake daemons that do not always do the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.case import load
from checker.judge import Example
from checker.repeat import run_repeat, wobble
from checker.tally import Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.values.trace import Observation
from targets.deaths import Death
from targets.replay import Replay
from tests.checker.fakes import OK, generator, model_answer, oracle, refusal, sides, trace

if TYPE_CHECKING:
    from model.values.trace import Command, Reply
    from reports.values import Summary


@pytest.fixture(autouse=True)
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the small world are none that a case may hold."""
    monkeypatch.setattr("checker.case.check_trace", lambda _trace: None)


TRACES = [("a", "bad", "b"), ("a", "odd", "b"), ("c", "d"), ("odd", "a")]


class Wobbling:
    """Answers ``odd`` differently every other time."""

    def __init__(self, other: Reply | Death) -> None:
        self.times = 0
        self._other = other

    def __call__(self, command: Command) -> Reply | Death:
        if command["execute"] == "odd":
            self.times += 1
            return OK if self.times % 2 else self._other
        return model_answer(command)


def run(how: Any, cases: Path | None = None, traces: Any = TRACES, **options: Any) -> Summary:
    tally = Tally("repeat", QEMU_7_2, seed=1, release="7.2.22", cases=cases)
    return run_repeat(tally, generator(traces), sides(how), **options)


def test_the_same_twice(tmp_path: Path) -> None:
    # What the model says does not matter.
    summary = run(lambda command: refusal(f"no {command['execute']}"), tmp_path)
    assert not summary.failed
    assert (summary.examples, summary.commands, summary.command) == (4, 10, "repeat")
    assert list(tmp_path.iterdir()) == []


def test_a_wobble_is_one_reduced_case(tmp_path: Path) -> None:
    summary = run(Wobbling(refusal("it is odd")), tmp_path)
    assert (summary.divergences, summary.failed) == (2, True)
    (finding,) = summary.findings
    assert finding.occurrences == 2
    assert finding.signature == "odd | reply | repeated | GenericError: it is odd | success"
    case = load(Path(str(finding.case_file)))
    assert case.kind == "divergence"
    assert [step.command for step in case.steps] == [{"execute": "odd", "arguments": {}}]
    assert (
        "another 10 runs differed 5 times from the first; reduced from 2 commands"
        in (case.provenance["note"])
    )
    replies = [seen.reply for step in case.steps for seen in (step.expected, step.got) if seen]
    assert sorted(map(str, replies)) == sorted(map(str, [OK, refusal("it is odd")]))


def test_what_does_not_come_again_is_kept_whole(tmp_path: Path) -> None:
    how = Wobbling(refusal("it is odd"))

    def once(command: Command) -> Reply | Death:
        return how(command) if how.times < 2 else model_answer(command)

    summary = run(once, tmp_path, reduce_replays=100)
    (finding,) = summary.findings
    assert len(finding.steps) == 2
    note = load(Path(str(finding.case_file))).provenance["note"]
    assert note == "another 10 runs differed 0 times from the first"


def test_dying_once_is_a_wobble_and_dying_twice_is_none(tmp_path: Path) -> None:
    death = Death("crash", 0, signal="SIGSEGV")
    summary = run(Wobbling(death), tmp_path, reduce_replays=0)
    (finding,) = summary.findings
    assert finding.signature == "odd | process | repeated | crash SIGSEGV | goes on"
    assert "the daemon once goes on, once crash SIGSEGV" in finding.title

    def dies(command: Command) -> Reply | Death:
        return death if command["execute"] == "odd" else model_answer(command)

    assert not run(dies).failed


def test_what_follows_a_hazard_is_known(tmp_path: Path) -> None:
    def hazardous(sink: Any) -> None:
        each = trace("a", "odd")
        met = [attrs.evolve(e, hazards=frozenset({"hazard.x"})) for e in oracle(each)]
        sink(Example(each, tuple(met)))

    tally = Tally("repeat", QEMU_7_2, seed=1, cases=tmp_path)
    summary = run_repeat(tally, hazardous, sides(Wobbling(refusal("it is odd"))))
    assert (summary.known_issues, summary.failed) == ((("hazard.x", 1),), False)


def test_where_the_model_broke_nothing_is_run() -> None:
    ran: list[str] = []

    def how(command: Command) -> Reply:
        ran.append(command["execute"])
        return OK

    def broken(sink: Any) -> None:
        each = trace("a", "start", "reopencheck-wait", "b")
        # The model broke at the wait, so that nobody knows whether it is the right one.
        sink(Example(each, oracle(each)[:2]))

    tally = Tally("repeat", QEMU_7_2, seed=1)
    run_repeat(tally, broken, sides(how))
    assert ran == ["a", "a"]


def test_an_interrupt_and_an_error_end_the_run() -> None:
    def interrupted(sink: Any) -> None:
        generator(TRACES)(sink)
        raise KeyboardInterrupt

    tally = Tally("repeat", QEMU_7_2, seed=1)
    assert run_repeat(tally, interrupted, sides(model_answer)).interrupted

    def breaks(_command: Command) -> Reply:
        raise RuntimeError("no more processes")

    with pytest.raises(RuntimeError, match="no more processes"):
        run(breaks)


def test_the_budget_ends_the_run() -> None:
    def endless(sink: Any) -> None:
        while True:
            generator(TRACES)(sink)

    tally = Tally("repeat", QEMU_7_2, seed=1)
    summary = run_repeat(tally, endless, sides(model_answer), budget=0.05)
    assert summary.examples > 0


def test_generated_names_are_no_wobble() -> None:
    def seen(name: str) -> Replay:
        nodes = [{"node-name": name, "ro": False}]
        return Replay((Observation(OK, nodes, {"nodes": [], "edges": []}),))

    assert wobble(trace("a"), seen("#block017"), seen("#block099")) is None
    found = wobble(trace("a"), seen("n0"), seen("#block099"))
    assert found is not None
    assert found.verdict.path == "nodes"
