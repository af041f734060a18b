# SPDX-License-Identifier: GPL-2.0-or-later
"""Difference runs against fake daemons: what is found, counted, confirmed, written, reduced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.case import load
from checker.diff import DiffOptions, StopRun, run_diff
from checker.judge import Example
from checker.tally import Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from targets.deaths import Death
from targets.errors import ContainmentError
from tests.checker.fakes import Answer, generator, model_answer, oracle, refusal, sides, trace

if TYPE_CHECKING:
    from model.values.trace import Command, Reply, Trace
    from reports.values import Summary
    from targets.pool import Finished


@pytest.fixture(autouse=True)
def no_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the small world are none that a case may hold."""
    monkeypatch.setattr("checker.case.check_trace", lambda _trace: None)


TRACES = [("a", "bad", "b"), ("c", "d"), ("bad",), ("a", "odd", "b"), ("odd", "a")]


def run(
    how: Answer,
    cases: Path | None = None,
    *,
    fresh: Answer | None = None,
    traces: Any = TRACES,
    **options: Any,
) -> Summary:
    tally = Tally("diff", QEMU_7_2, seed=1, release="7.2.22", cases=cases, provenance="a test")
    return run_diff(tally, generator(traces), sides(how, fresh), DiffOptions(**options))


def odd(command: Command) -> Reply:
    """A daemon that refuses ``odd``, which the model accepts."""
    return refusal("it is odd") if command["execute"] == "odd" else model_answer(command)


def test_agreement(tmp_path: Path) -> None:
    summary = run(model_answer, tmp_path)
    assert not summary.failed
    assert (summary.examples, summary.commands) == (5, 11)
    assert (summary.accepted, summary.refused) == (9, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_divergence_is_one_reduced_case(tmp_path: Path) -> None:
    summary = run(odd, tmp_path)
    assert summary.failed
    assert summary.divergences == 2
    (finding,) = summary.findings
    assert finding.occurrences == 2
    assert finding.case_file is not None
    case = load(Path(finding.case_file))
    assert [step.command for step in case.steps] == [{"execute": "odd", "arguments": {}}]
    assert case.images == []
    assert case.provenance["found-by"] == "a test"
    assert case.provenance["note"].startswith("reduced from 2 commands in")
    assert case.difference is not None
    assert case.difference.path == "reply"
    assert case.signature == "odd | reply | accepted | success | GenericError: it is odd"
    assert case.seed == 1


def test_the_case_is_written_before_it_is_reduced(tmp_path: Path) -> None:
    def breaks(command: Command) -> Reply:
        if command["execute"] == "odd" and "x" not in command["arguments"]:
            raise RuntimeError("in the middle of reducing")
        return odd(command)

    with pytest.raises(RuntimeError):
        run(breaks, tmp_path)
    (path,) = tmp_path.iterdir()
    assert len(load(path).steps) == 2


def test_without_reduction_the_trace_ends_at_the_difference(tmp_path: Path) -> None:
    run(odd, tmp_path, reduce_replays=0)
    (path,) = tmp_path.iterdir()
    assert [step.command["execute"] for step in load(path).steps] == ["a", "odd"]


def test_what_a_fresh_process_does_not_show_does_not_count(tmp_path: Path) -> None:
    summary = run(odd, tmp_path, fresh=model_answer)
    assert not summary.failed
    assert summary.unconfirmed == 2
    assert "not on a fresh process" in summary.notes[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        (
            Death("crash", 0, signal="SIGABRT", stderr=("block.c:123: Assertion `x' failed.",)),
            "SIGABRT",
        ),
        (Death("exit", 0, status=1), "status 1"),
        (Death("hang", 0), "no reply in time"),
    ],
)
def test_a_death_is_a_finding_and_the_run_goes_on(tmp_path: Path, death: Death, cause: str) -> None:
    def dies(command: Command) -> Reply | Death:
        return death if command["execute"] == "odd" else model_answer(command)

    summary = run(dies, tmp_path)
    assert (summary.examples, summary.crashes, summary.divergences) == (5, 2, 0)
    (finding,) = summary.findings
    assert finding.kind == death.kind
    assert finding.signature.startswith(f"odd | {death.kind} | {cause} | ")
    assert "123" not in finding.signature
    assert finding.stderr == death.stderr
    assert finding.case_file is not None
    case = load(Path(finding.case_file))
    assert [(s.command["execute"], s.got) for s in case.steps] == [("odd", None)]


def test_what_follows_a_hazard_is_known(tmp_path: Path) -> None:
    def hazardous(sink: Any) -> None:
        for names in (("a", "odd"), ("odd", "a"), ("a", "deadly")):
            each = trace(*names)
            met = [
                attrs.evolve(e, hazards=frozenset({"hazard.x"})) if number == 1 else e
                for number, e in enumerate(oracle(each))
            ]
            sink(Example(each, tuple(met)))

    def how(command: Command) -> Reply | Death:
        return Death("hang", 0) if command["execute"] == "deadly" else odd(command)

    tally = Tally("diff", QEMU_7_2, seed=1, cases=tmp_path)
    summary = run_diff(tally, hazardous, sides(how), DiffOptions())
    assert summary.known_issues == (("hazard.x", 2),)
    assert (summary.known, summary.divergences, summary.crashes) == (2, 1, 0)
    (finding,) = summary.findings
    assert [s.command["execute"] for s in finding.steps] == ["odd"]


def test_a_death_is_charged_to_the_command_that_the_confirmation_names(tmp_path: Path) -> None:
    death = Death("crash", 0, signal="SIGSEGV")

    def blurred(command: Command) -> Reply | Death:
        return death if command["execute"] in {"a", "odd"} else model_answer(command)

    def exact(command: Command) -> Reply | Death:
        return death if command["execute"] == "odd" else model_answer(command)

    summary = run(blurred, tmp_path, fresh=exact, traces=[("a", "odd"), ("a", "b", "odd")])
    (finding,) = summary.findings
    assert finding.signature == "odd | crash | SIGSEGV | "
    assert (summary.crashes, finding.occurrences, summary.unconfirmed) == (2, 2, 0)
    assert [s.command["execute"] for s in finding.steps] == ["odd"]


def test_different_signatures_are_different_cases(tmp_path: Path) -> None:
    def two(command: Command) -> Reply:
        return (
            refusal(f"it is {command['execute']}")
            if command["execute"] in "abc"
            else model_answer(command)
        )

    summary = run(two, tmp_path)
    assert len(summary.findings) == len(list(tmp_path.iterdir())) == 2
    assert summary.divergences == 4


def test_stops_at_the_first(tmp_path: Path) -> None:
    summary = run(odd, tmp_path, stop_at_first=True, reduce_replays=0)
    assert summary.divergences == 1
    assert summary.examples == 4


def test_stopping_leaves_nothing_in_the_pool() -> None:
    both = sides(odd)
    for _ in range(2):
        tally = Tally("diff", QEMU_7_2, seed=1)
        options = DiffOptions(stop_at_first=True, reduce_replays=0)
        summary = run_diff(tally, generator([("odd",), ("a",), ("b",), ("c",)]), both, options)
        assert (summary.examples, summary.divergences) == (1, 1)
        assert not list(both.pool.drain())


def test_an_interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    def generate(sink: Any) -> None:
        generator(TRACES * 2)(sink)
        raise KeyboardInterrupt

    tally = Tally("diff", QEMU_7_2, seed=1, cases=tmp_path)
    summary = run_diff(tally, generate, sides(odd), DiffOptions())
    assert summary.interrupted
    assert summary.findings
    assert list(tmp_path.iterdir())


def test_the_budget_ends_the_run() -> None:
    made = 0

    def generate(sink: Any) -> None:
        nonlocal made
        while True:
            each = trace("a")
            made += 1
            sink(Example(each, oracle(each)))

    tally = Tally("diff", QEMU_7_2, seed=1)
    summary = run_diff(tally, generate, sides(model_answer), DiffOptions(budget=0.05))
    assert summary.examples == made > 0
    assert not summary.interrupted


def test_an_error_of_a_target_ends_the_run_as_itself() -> None:
    caught: list[BaseException] = []

    def breaks(_command: Command) -> Reply:
        raise RuntimeError("no more processes")

    def generate(sink: Any) -> None:
        try:
            generator(TRACES)(sink)
        except StopRun as stop:
            caught.append(stop)
            raise

    tally = Tally("diff", QEMU_7_2, seed=1)
    with pytest.raises(RuntimeError, match="no more processes"):
        run_diff(tally, generate, sides(breaks), DiffOptions())
    assert caught, "the engine must not see it as a failing example"


def test_an_example_that_the_gate_refuses_does_not_end_the_run() -> None:
    both = sides(odd)
    submit = both.pool.submit

    def refusing(trace: Trace, token: Example) -> tuple[Finished[Example], ...]:
        if [each["execute"] for each in trace.commands] == ["c", "d"]:
            raise ContainmentError("step 1: c: this command is not one that a trace may use")
        return submit(trace, token)

    both.pool.submit = refusing  # type: ignore[method-assign]
    tally = Tally("diff", QEMU_7_2, seed=1)
    summary = run_diff(tally, generator(TRACES), both, DiffOptions(reduce_replays=0))
    assert (summary.disturbed, summary.examples) == (1, len(TRACES) - 1)
    assert summary.divergences
    assert any("not one that a trace may use" in note for note in summary.notes)
