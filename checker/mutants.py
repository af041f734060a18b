# SPDX-License-Identifier: GPL-2.0-or-later
"""Planted faults: the spec lacking one rule must be told from the real thing.

Each mutant is a dialect without a rule. Traces are generated from the mutant's
own state, so that whatever follows from the fault may happen, and replayed on the real
daemon until the first confirmed difference. A mutant that survives says that nothing
the machine does depends on that rule, or that the comparison does not see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from checker.diff import DiffOptions, Generator, Sides, run_diff
from checker.errors import CheckerError
from checker.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.dialect import Dialect
    from model.rules import Rule
    from model.trace import Json


@attrs.frozen
class Mutant:
    """A rule that was dropped, and what became of it.

    ``caught`` is the number of examples until the first difference, None for a
    survivor. ``shown`` tells the difference in one line.
    """

    rule: str
    kind: str
    examples: int
    caught: int | None
    seconds: float
    shown: str = ""

    def as_json(self) -> dict[str, Json]:
        """The result for machines."""
        return attrs.asdict(self)


@attrs.frozen
class MutantRun:
    """All mutants of a run, in the order in which they were tried."""

    release: str
    dialect: str
    seed: int
    mutants: tuple[Mutant, ...]
    interrupted: bool = False

    @property
    def survivors(self) -> tuple[str, ...]:
        """The rules whose absence nothing showed."""
        return tuple(m.rule for m in self.mutants if m.caught is None)

    def as_json(self) -> dict[str, Json]:
        """The result for machines."""
        return {
            "release": self.release,
            "dialect": self.dialect,
            "seed": self.seed,
            "mutants_total": len(self.mutants),
            "mutants_caught": len(self.mutants) - len(self.survivors),
            "survivors": list(self.survivors),
            "interrupted": self.interrupted,
            "mutants": [m.as_json() for m in self.mutants],
        }


def choose_rules(dialect: Dialect, wanted: Sequence[str]) -> tuple[Rule, ...]:
    """The rules to drop: all that a client can reach, or those named (``reopen.*``: a family)."""
    rules = dialect.rules()
    if not wanted:
        return tuple(rule for rule in rules if not rule.unreachable)
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
    """Drop each rule in turn and look for the first difference."""
    mutants: list[Mutant] = []
    for rule in rules:
        mutant = dialect.without(rule.id)
        tally = Tally("diff", mutant, seed=seed, release=release)
        options = DiffOptions(reduce_replays=0, stop_at_first=True)
        summary = run_diff(tally, generator(mutant), sides(mutant), options)
        if summary.interrupted:
            return MutantRun(release, dialect.name, seed, tuple(mutants), interrupted=True)
        result = Mutant(
            rule.id,
            rule.kind,
            summary.examples,
            summary.examples if summary.failed else None,
            round(summary.seconds, 3),
            summary.findings[0].title if summary.findings else "",
        )
        mutants.append(result)
        progress(result)
    return MutantRun(release, dialect.name, seed, tuple(mutants))
