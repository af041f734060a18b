# SPDX-License-Identifier: GPL-2.0-or-later
"""Planted faults: the spec lacking one rule must be told from the real thing.

Each mutant is a dialect without a rule. Traces are generated from the mutant's
own state, so that whatever follows from the fault may happen, and replayed on the real
daemon until the first confirmed difference. A mutant that survives says that nothing
the machine does depends on that rule, or that the comparison does not see it.

Only what the whole spec gets right counts: a difference that it shows at the same step too,
or a daemon that dies, says nothing about the rule that was dropped.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from checker.diff import DiffOptions, Generator, Sides, run_diff
from checker.errors import CheckerError
from checker.judge import Example, judge
from checker.laws import first_violation, no_law
from checker.tally import Tally
from targets.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from model.release.dialect import Dialect
    from model.release.rules import Rule
    from model.values.trace import Json

    from checker.judge import Oracle, Verdict
    from reports.values import Summary

_MOST_SECONDS = 300
_ENDLESS = "the model does not end"


@attrs.frozen
class Mutant:
    """A rule that was dropped, and what became of it.

    ``caught`` is the number of examples until the first difference, None if there was none.
    ``shown`` tells the difference in one line. ``disturbed`` examples could not be judged: where
    there are any, nobody knows whether it would have been caught.
    """

    rule: str
    kind: str
    examples: int
    caught: int | None
    seconds: float
    shown: str = ""
    disturbed: int = 0

    @property
    def survived(self) -> bool:
        """Whether every example was judged, and none showed it."""
        return self.caught is None and not self.disturbed

    @property
    def unknown(self) -> bool:
        """Whether it was not caught where not every example was judged."""
        return self.caught is None and self.disturbed > 0

    def as_json(self) -> dict[str, Json]:
        """The result for machines."""
        return attrs.asdict(self)


@attrs.frozen
class MutantRun:
    """All mutants of a run, in the order in which they were tried.

    ``trouble`` says what ended it before all were, if anything did.
    """

    release: str
    dialect: str
    seed: int
    mutants: tuple[Mutant, ...]
    interrupted: bool = False
    trouble: str = ""

    @property
    def survivors(self) -> tuple[str, ...]:
        """The rules whose absence nothing showed."""
        return tuple(m.rule for m in self.mutants if m.survived)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The rules of which it is not known, since something disturbed the daemon."""
        return tuple(m.rule for m in self.mutants if m.unknown)

    def as_json(self) -> dict[str, Json]:
        """The result for machines."""
        return {
            "release": self.release,
            "dialect": self.dialect,
            "seed": self.seed,
            "mutants_total": len(self.mutants),
            "mutants_caught": len(self.mutants) - len(self.survivors) - len(self.unknown),
            "survivors": list(self.survivors),
            "unknown": list(self.unknown),
            "interrupted": self.interrupted,
            "trouble": self.trouble,
            "mutants": [m.as_json() for m in self.mutants],
        }


def choose_rules(dialect: Dialect, wanted: Sequence[str]) -> tuple[Rule, ...]:
    """The rules to drop: all that a client can reach, or those named (``reopen.*``: a family)."""
    rules = dialect.rules()
    if not wanted:
        decides = (r for r in rules if r.kind not in {"hazard", "outside"})
        return tuple(r for r in decides if not r.unreachable)
    chosen: dict[str, Rule] = {}
    for name in wanted:
        if name.endswith("*"):
            found = [rule for rule in rules if rule.id.startswith(name[:-1])]
        else:
            found = [rule for rule in rules if rule.id == name]
        if not found:
            raise CheckerError(f"{dialect.name} has no rule {name!r}; see reopencheck rules")
        chosen.update((rule.id, rule) for rule in found)
    return tuple(chosen.values())


def _judge_against(whole: Oracle) -> Callable[[Example, Replay], Verdict | None]:
    """A judge who sees only what the whole spec gets right."""

    def judge_mutant(example: Example, replay: Replay) -> Verdict | None:
        if replay.death is not None and example.end is None:
            original = Example(example.trace, whole(example.trace))
            if judge(original, replay) is None:
                return judge(example, replay)
        seen = Replay(replay.observations)
        verdict = judge(example, seen)
        if verdict is None:
            return None
        original = Example(example.trace, whole(example.trace))
        outside = original.outside
        if outside is not None and outside <= verdict.step:
            return None
        if original.hazard_before(verdict.step) is not None:
            return None
        right = judge(original, seen)
        return None if right is not None and right.step <= verdict.step else verdict

    return judge_mutant


class _TimeUp(BaseException):  # not an error: an alarm
    """A mutant took too long. Not an Exception, which the engine would try to see again."""


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    """Raise _TimeUp in the body after some time: a mutant may not end by itself."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _shown(summary: Summary) -> str:
    if summary.findings:
        return summary.findings[0].title
    return _ENDLESS if summary.failed else ""


def run_mutants(
    dialect: Dialect,
    rules: Sequence[Rule],
    generator: Callable[[Dialect], Generator],
    sides: Callable[[Dialect], Sides],
    *,
    seed: int,
    release: str,
    progress: Callable[[Mutant], None],
) -> MutantRun:
    """Drop each rule in turn and look for the first difference.

    A mutant that does not end within five minutes counts as caught by that. Runs in the
    main thread, where an alarm is heard.
    """
    mutants: list[Mutant] = []
    options = DiffOptions(
        reduce_replays=0,
        stop_at_first=True,
        judge=_judge_against(sides(dialect).oracle),
        excuse=lambda trace: first_violation(trace, dialect, no_law) is not None,
    )
    for rule in rules:
        mutant = dialect.without(rule.id)
        tally = Tally("diff", mutant, seed=seed, release=release)
        try:
            with _alarm(_MOST_SECONDS):
                summary = run_diff(tally, generator(mutant), sides(mutant), options)
        except _TimeUp:
            summary = attrs.evolve(tally.summary(), violations=1)
        if summary.interrupted:
            return MutantRun(release, dialect.name, seed, tuple(mutants), interrupted=True)
        result = Mutant(
            rule.id,
            rule.kind,
            summary.examples,
            summary.examples if summary.failed else None,
            round(summary.seconds, 3),
            _shown(summary),
            summary.disturbed,
        )
        mutants.append(result)
        progress(result)
    return MutantRun(release, dialect.name, seed, tuple(mutants))
