# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model expects of a trace, and the verdict on what a real target showed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from checker.cases.waits import cause, through
from checker.compare.observations import ABSENT, is_graph, is_objects
from checker.compare.signature import of_death, of_divergence, told_command
from checker.compare.traces import StepMismatch, compare_trace
from model.release.rules import NOT_MODELLED
from reports.values import Difference, Finding, FindingKind, Step

if TYPE_CHECKING:
    from model.values.trace import Json, Observation, Trace
    from targets.daemons.deaths import Death
    from targets.daemons.replay import Replay


@attrs.frozen
class Expectation:
    """What the model says of one step, by which rules it decided, and which defects it met.

    ``unmodelled`` names what is outside the spec there, if anything: then it expects nothing.
    ``busy`` says whether a job is alive after it, at work or at rest.
    """

    observation: Observation
    accepted: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    hazards: frozenset[str] = frozenset()
    unmodelled: frozenset[str] = frozenset()
    ended: bool = False
    busy: bool = False

    @property
    def rule(self) -> str:
        """The rule that refused, or ``accepted``."""
        return "+".join(sorted(self.refused)) or "accepted"


@attrs.frozen
class Example:
    """A finished trace with the model's expectations, step by step."""

    trace: Trace
    expectations: tuple[Expectation, ...]

    @property
    def end(self) -> int | None:
        """The step at which the daemon means to end itself, if it does."""
        for number, expectation in enumerate(self.expectations):
            if expectation.ended:
                return number
        return None

    @property
    def outside(self) -> int | None:
        """The first step at which the trace leaves the spec, if it does.

        Where that is a wait, it is the command whose jobs are waited for.
        """
        for number, expectation in enumerate(self.expectations):
            if expectation.unmodelled:
                return cause(self.trace.commands, number)
        return None

    def within(self) -> Example:
        """The example up to where it leaves the spec: nobody knows what comes from there on."""
        outside = self.outside
        return self if outside is None else self.until(outside)

    def until(self, step: int) -> Example:
        """The example up to before a step."""
        trace = attrs.evolve(self.trace, commands=self.trace.commands[:step])
        return Example(trace, self.expectations[:step])

    def means(self, death: Death) -> bool:
        """Whether the daemon ended itself as expected.

        Replies that were on their way then are lost, so that it may look like an earlier step.
        """
        end = self.end
        return end is not None and death.kind == "exit" and death.step <= end

    def hazard_before(self, step: int) -> str | None:
        """The first defect of the release that the trace met up to and with ``step``.

        From there on, what the real thing does is evidence of that defect only.
        """
        for expectation in self.expectations[: step + 1]:
            if expectation.hazards:
                return min(expectation.hazards)
        return None


class Oracle(Protocol):
    """Something that says what to expect of a trace: the model in some dialect."""

    def __call__(self, trace: Trace, /) -> tuple[Expectation, ...]:
        """Say what to expect of each step."""


class Replayer(Protocol):
    """Something that runs traces: a real storage daemon."""

    def __call__(self, trace: Trace, /) -> Replay:
        """Run a finished trace from an empty graph."""


@attrs.frozen
class Verdict:
    """Why a replay is not what was expected."""

    kind: FindingKind
    signature: str
    title: str
    step: int
    path: str = ""
    expected: object = None
    got: object = None
    stderr: tuple[str, ...] = ()


def left_at(example: Example, replay: Replay) -> int | None:
    """The first step that is outside the spec: the model says so, or a target cannot do it."""
    steps = [] if example.outside is None else [example.outside]
    commands = example.trace.commands
    steps += [
        cause(commands, number)
        for number, seen in enumerate(replay.observations)
        if is_outside(seen)
    ]
    return min(steps, default=None)


def is_outside(observation: Observation | None) -> bool:
    """Whether an answer is reopencheck's own and not one of QEMU's."""
    error = None if observation is None else observation.reply.get("error")
    return isinstance(error, dict) and error.get("class") == NOT_MODELLED


def judge(example: Example, replay: Replay) -> Verdict | None:
    """None when the replay is what the model expects; a death outweighs any difference.

    From where the trace leaves the spec, nothing is judged, and a death that was made from outside
    says nothing about the daemon.
    """
    outside = left_at(example, replay)
    if outside is not None:
        example = example.until(outside)
        death = replay.death
        if death is not None and death.step >= outside:
            death = None
        replay = attrs.evolve(replay, observations=replay.observations[:outside], death=death)
    if replay.death is not None and not replay.death.disturbed:
        if not example.means(replay.death):
            return _death(example.trace, replay.death)
    elif replay.death is None and (end := example.end) is not None:
        return _goes_on(example.trace, end)
    return judge_answers(example, replay)


def judge_answers(example: Example, replay: Replay) -> Verdict | None:
    """The first difference in what was answered, whatever became of the daemon then."""
    outside = left_at(example, replay)
    ends = [step for step in (example.end, outside) if step is not None]
    expected = [e.observation for e in example.expectations[: min(ends, default=None)]]
    mismatch = compare_trace(expected, replay.observations)
    if mismatch is None:
        return None
    expectation = example.expectations[mismatch.step]
    signature = of_divergence(
        example.trace,
        mismatch,
        expectation.rule,
        expectation.observation,
        replay.observations[mismatch.step],
    )
    return Verdict(
        "divergence",
        signature,
        title(example.trace, mismatch),
        mismatch.step,
        mismatch.path,
        mismatch.expected,
        mismatch.got,
    )


def _goes_on(trace: Trace, end: int) -> Verdict:
    command = told_command(trace, end)
    return Verdict(
        "divergence",
        f"{command} | process | ended | goes on",
        f"{command}: expected the daemon to end itself",
        end,
        "process",
        "ended",
        "goes on",
    )


_KINDS: dict[str, FindingKind] = {
    "crash": "crash",
    "exit": "exit",
    "hang": "hang",
    "protocol": "protocol",
}


def _death(trace: Trace, death: Death) -> Verdict:
    words = death.last_words
    if death.kind == "protocol":
        how = death.detail
    elif death.signal is not None:
        how = death.signal
    elif death.status is not None:
        how = f"status {death.status}"
    else:
        how = "no reply in time"
    step = min(death.step, max(0, len(trace.commands) - 1))
    command = told_command(trace, step)
    said = f": {words}" if words else ""
    return Verdict(
        _KINDS[death.kind],
        of_death(trace, death.step, death.kind, how.partition(":")[0], words),
        f"{command}: the daemon's {death.kind} ({how}){said}",
        step,
        stderr=tuple(death.stderr),
    )


def answer(value: object) -> str:
    """A compared value as people read it."""
    if isinstance(value, dict) and isinstance(value.get("error"), dict):
        return repr(value["error"].get("desc"))
    if isinstance(value, dict) and "return" in value:
        return "success"
    text = str(value) if value is ABSENT else repr(value)
    return text if len(text) <= 160 else text[:157] + "..."  # noqa: PLR2004  # two lines of text


def title(trace: Trace, mismatch: StepMismatch) -> str:
    """A difference in one line for people."""
    command = told_command(trace, mismatch.step)
    expected, got = answer(mismatch.expected), answer(mismatch.got)
    return f"{command}: {mismatch.path}: expected {expected}, got {got}"


def as_json(value: object) -> Json:
    """A compared value as it is written down: what a side lacks is null."""
    if value is ABSENT:
        return None
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


def _in_form(seen: Observation | None) -> Observation | None:
    """What a case can hold: answers of another form than QEMU's are told in the difference only."""
    if seen is None:
        return None
    odd: dict[str, Any] = {
        part: None
        for part in ("nodes", "jobs", "exports")
        if not is_objects(getattr(seen, part) or [])
    }
    if seen.graph is not None and not is_graph(seen.graph):
        odd["graph"] = None
    return attrs.evolve(seen, **odd) if odd else seen


def finding(
    example: Example,
    replay: Replay,
    verdict: Verdict,
    *,
    release: str,
    dialect: str,
    seed: int | None,
) -> Finding:
    """The finding that a verdict stands for; the trace ends at the step that shows it.

    Waits that belong to that step are kept: it would be observed at another time without them.
    """
    steps = []
    commands = example.trace.commands
    for number, command in enumerate(commands[: through(commands, verdict.step)]):
        got = replay.observations[number] if number < len(replay.observations) else None
        expected = None
        if number < len(example.expectations):  # not where the model itself broke
            expected = example.expectations[number].observation
        steps.append(Step(command, _in_form(expected), _in_form(got)))
    difference = None
    if verdict.kind == "divergence":
        difference = Difference(
            verdict.step, verdict.path, as_json(verdict.expected), as_json(verdict.got)
        )
    return Finding(
        kind=verdict.kind,
        signature=verdict.signature,
        title=verdict.title,
        images=example.trace.images,
        steps=tuple(steps),
        difference=difference,
        release=release,
        dialect=dialect,
        seed=seed,
        stderr=verdict.stderr,
    )
