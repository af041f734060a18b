# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run has to tell: plain values that every report is made of.

The checker fills them; reports only read them, so a report never starts a process
and can be made again from a case file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from model.values.trace import Command, ImageSpec, Json, Observation

FindingKind: TypeAlias = Literal["divergence", "crash", "hang", "exit", "protocol", "property"]
"""What went wrong: two answers differ, the daemon died in one of three ways, an invariant broke."""


RunKind: TypeAlias = Literal["check", "diff", "repeat"]
"""The model alone, the model beside a daemon, or a daemon beside itself."""


@attrs.frozen
class Step:
    """One command with what the model expected and what the other side answered.

    Either observation is None where that side was not asked or could not answer.
    """

    command: Command
    expected: Observation | None = None
    got: Observation | None = None


@attrs.frozen
class Difference:
    """The first disagreement: ``step`` counts from 0, ``path`` leads into the observation."""

    step: int
    path: str
    expected: Json
    got: Json


@attrs.frozen
class Finding:
    """One kind of failure, told by the shortest trace that shows it.

    ``signature`` is the bucket that equal failures fall into, ``title`` one line for
    people, ``case_file`` where the case was written (None if it was not), and
    ``occurrences`` how many traces of the run fell into the bucket.
    """

    kind: FindingKind
    signature: str
    title: str
    images: tuple[ImageSpec, ...]
    steps: tuple[Step, ...]
    difference: Difference | None = None
    case_file: str | None = None
    occurrences: int = 1
    release: str = ""
    dialect: str = ""
    seed: int | None = None
    stderr: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """The finding for machines, without its steps: those stand in the case file."""
        return {
            "kind": self.kind,
            "signature": self.signature,
            "title": self.title,
            "case": self.case_file,
            "occurrences": self.occurrences,
            "steps": len(self.steps),
        }


@attrs.frozen
class RuleUse:
    """How often a rule decided: ``accepted`` and ``refused`` count commands.

    ``unreachable`` says why no client gets there; such a rule is expected of no run.
    """

    id: str
    sentence: str
    kind: str
    accepted: int = 0
    refused: int = 0
    unreachable: str = ""

    @property
    def reached(self) -> bool:
        """Whether any command was decided by it."""
        return bool(self.accepted or self.refused)


@attrs.frozen
class Summary:
    """The result of a run of ``check``, ``diff`` or ``repeat``.

    ``examples`` are traces, ``commands`` the commands in them, ``accepted`` and
    ``refused`` how the model answered. ``divergences`` counts traces that differ,
    ``known`` those that a known issue explains (they are in neither ``divergences`` nor
    ``crashes``) and ``known_issues`` by which, ``crashes`` traces in which the daemon died,
    ``unconfirmed`` differences that a fresh process did not show again. ``witnesses``
    are the cases in which a law says something, with how often each came up. ``job_states``
    counts how often a job came to each state, ``reopened_with_job`` the traces in which a node
    was reopened while a job was alive, ``read_data`` those in which a guest's data was compared.
    ``outside`` counts the traces that left the spec, ``disturbed`` those that could not be judged
    since something else than the daemon itself ended it. ``trouble`` says in one line what ended
    the run early, and ``recovered`` are findings of earlier runs that were killed.
    """

    command: RunKind
    release: str
    dialect: str
    seed: int
    examples: int = 0
    commands: int = 0
    accepted: int = 0
    refused: int = 0
    divergences: int = 0
    known: int = 0
    crashes: int = 0
    unconfirmed: int = 0
    violations: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    trouble: str = ""
    outside: int = 0
    disturbed: int = 0
    recovered: tuple[Finding, ...] = ()
    rules: tuple[RuleUse, ...] = ()
    findings: tuple[Finding, ...] = ()
    target: str = ""
    notes: tuple[str, ...] = ()
    known_issues: tuple[tuple[str, int], ...] = ()
    witnesses: tuple[tuple[str, int], ...] = ()
    job_states: tuple[tuple[str, int], ...] = ()
    reopened_with_job: int = 0
    read_data: int = 0

    @property
    def failed(self) -> bool:
        """Whether something did not hold."""
        return bool(
            self.divergences or self.crashes or self.violations or self.findings or self.recovered
        )

    @property
    def commands_per_second(self) -> float:
        """Commands over the whole run's time, generation and comparison included."""
        return self.commands / self.seconds if self.seconds > 0 else 0.0

    @property
    def rules_total(self) -> int:
        """Rules that the dialect has and a client can reach; hazards are counted apart."""
        return sum(
            rule.kind in ("guard", "effect") and (rule.reached or not rule.unreachable)
            for rule in self.rules
        )

    @property
    def rules_reached(self) -> int:
        """Rules that decided at least one command."""
        return sum(rule.kind in ("guard", "effect") and rule.reached for rule in self.rules)

    @property
    def refusals_total(self) -> int:
        """Rules that can refuse a client."""
        return self.refusals_reached + len(self.never_refused)

    @property
    def refusals_reached(self) -> int:
        """Rules that refused at least once."""
        return sum(rule.kind == "guard" and rule.refused > 0 for rule in self.rules)

    @property
    def unreached(self) -> tuple[str, ...]:
        """Identifiers of rules that never decided anything."""
        return tuple(
            r.id
            for r in self.rules
            if r.kind in ("guard", "effect") and not r.reached and not r.unreachable
        )

    @property
    def never_refused(self) -> tuple[str, ...]:
        """Identifiers of rules that can refuse and never did."""
        return tuple(
            rule.id
            for rule in self.rules
            if rule.kind == "guard" and not rule.refused and not rule.unreachable
        )

    @property
    def unseen(self) -> tuple[str, ...]:
        """Witnesses that never came up: their laws held because nothing happened."""
        return tuple(name for name, count in self.witnesses if not count)

    @property
    def unvisited(self) -> tuple[str, ...]:
        """States that no job came to."""
        return tuple(state for state, count in self.job_states if not count)

    def as_json(self) -> dict[str, Any]:
        """The whole result for machines, with stable keys."""
        return {
            "command": self.command,
            "release": self.release,
            "dialect": self.dialect,
            "target": self.target,
            "seed": self.seed,
            "examples": self.examples,
            "commands": self.commands,
            "accepted": self.accepted,
            "refused": self.refused,
            "divergences": self.divergences,
            "known": self.known,
            "known_issues": dict(self.known_issues),
            "crashes": self.crashes,
            "unconfirmed": self.unconfirmed,
            "violations": self.violations,
            "rules_reached": self.rules_reached,
            "rules_total": self.rules_total,
            "refusals_reached": self.refusals_reached,
            "refusals_total": self.refusals_total,
            "unreached": list(self.unreached),
            "never_refused": list(self.never_refused),
            "witnesses": dict(self.witnesses),
            "unseen": list(self.unseen),
            "job_states": dict(self.job_states),
            "reopened_with_job": self.reopened_with_job,
            "read_data": self.read_data,
            "seconds": round(self.seconds, 3),
            "commands_per_second": round(self.commands_per_second, 1),
            "interrupted": self.interrupted,
            "trouble": self.trouble,
            "outside": self.outside,
            "disturbed": self.disturbed,
            "findings": [finding.as_json() for finding in self.findings],
            "recovered": [finding.as_json() for finding in self.recovered],
            "notes": list(self.notes),
        }
