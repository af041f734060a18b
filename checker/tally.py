# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting what a run did, and keeping one finding for each signature."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, get_args

import attrs
from model.jobs.lifecycle import Status
from model.values.trace import READ, REOPENS, name_of

from checker.case import from_finding, keep
from checker.interrupts import deferred
from reports.values import Finding, RuleUse, RunKind, Summary

if TYPE_CHECKING:
    from pathlib import Path

    from model.release.dialect import Dialect

    from checker.journal import Journal
    from checker.judge import Example, Expectation


@attrs.frozen
class Amount:
    """How much is generated: traces, commands in each, and the seed that repeats it."""

    examples: int
    steps: int
    seed: int


class Notes(list[str]):
    """Remarks on a run, the first hundred of them: a run of a week may make any number."""

    MOST = 100

    def __init__(self) -> None:
        super().__init__()
        self._more = 0

    def append(self, note: str, /) -> None:
        """Take a note."""
        if len(self) < self.MOST:
            super().append(note)
        else:
            self._more += 1

    def told(self) -> list[str]:
        """The notes, and how many more there were."""
        return [*self, f"and {self._more} more notes"] if self._more else list(self)


class Tally:
    """The counts of one run so far. Used from one thread at a time."""

    def __init__(
        self,
        command: RunKind,
        dialect: Dialect,
        *,
        seed: int,
        release: str = "",
        target: str = "",
        cases: Path | None = None,
        journal: Journal | None = None,
        provenance: str = "",
    ) -> None:
        self.command = command
        self.dialect = dialect
        self.seed = seed
        self.release = release
        self.target = target
        self.examples = self.commands = self.accepted = self.refused = 0
        self.divergences = self.known = self.crashes = self.unconfirmed = self.violations = 0
        self.outside = self.disturbed = 0
        self.reopened_with_job = self.read_data = 0
        self.interrupted = False
        self.trouble = ""
        self.recovered: list[Finding] = []
        self.notes = Notes()
        self.witnesses: dict[str, int] = {}
        self._cases = cases
        self._journal = journal
        self._provenance = provenance
        self._findings: dict[str, Finding] = {}
        self._rule_accepted: Counter[str] = Counter()
        self._rule_refused: Counter[str] = Counter()
        self._known_issues: Counter[str] = Counter()
        self._job_states: Counter[str] = Counter()
        self._start = time.monotonic()

    def count(self, example: Example) -> None:
        """Count an example, its commands and the rules that decided them."""
        self.examples += 1
        self.commands += len(example.trace.commands)
        for expectation in example.expectations:
            if "error" in expectation.observation.reply:
                self.refused += 1
            else:
                self.accepted += 1
            self._rule_accepted.update(expectation.accepted)
            self._rule_accepted.update(expectation.hazards)
            self._rule_refused.update(expectation.refused)
            self._job_states.update(_entered(expectation))
        self.reopened_with_job += _reopens_with_job(example)
        self.read_data += _reads_data(example)

    def count_known(self, issue: str) -> None:
        """Count a trace that a known issue explains: a rule's or a case file's name."""
        self.known += 1
        self._known_issues[issue] += 1

    def has(self, signature: str) -> bool:
        """Whether a finding with this signature was kept already."""
        return signature in self._findings

    def again(self, signature: str) -> None:
        """Count another trace that shows a finding that was kept already."""
        found = self._findings[signature]
        self._findings[signature] = attrs.evolve(found, occurrences=found.occurrences + 1)

    def keep(self, finding: Finding, note: str = "") -> None:
        """Remember a finding, then put it into the journal and write its case file, at once.

        Called again with the same signature it replaces both: the reduced form. Where the
        directory has a shorter case of it from before, that is what is told.
        """
        with deferred():  # an interrupt leaves no finding without its case
            self._keep(finding, note)

    def _keep(self, finding: Finding, note: str) -> None:
        known = self._findings.get(finding.signature)
        occurrences = 1 if known is None else known.occurrences
        self._findings[finding.signature] = attrs.evolve(
            finding,
            case_file=None if known is None else known.case_file,
            occurrences=occurrences,
        )
        if self._cases is None:
            return
        provenance = {"found-by": self._provenance} if self._provenance else {}
        if note:
            provenance["note"] = note
        case = from_finding(finding, provenance)
        if self._journal is not None:
            self._journal.add(case)
        path, kept = keep(case, self._cases)
        shortest = finding if kept is case else kept.finding()
        self._findings[finding.signature] = attrs.evolve(
            shortest, case_file=str(path), occurrences=occurrences
        )

    def summary(self) -> Summary:
        """The result so far."""
        return Summary(
            command=self.command,
            release=self.release,
            dialect=self.dialect.name,
            target=self.target,
            seed=self.seed,
            examples=self.examples,
            commands=self.commands,
            accepted=self.accepted,
            refused=self.refused,
            divergences=self.divergences,
            known=self.known,
            crashes=self.crashes,
            unconfirmed=self.unconfirmed,
            violations=self.violations,
            seconds=time.monotonic() - self._start,
            interrupted=self.interrupted,
            trouble=self.trouble,
            outside=self.outside,
            disturbed=self.disturbed,
            recovered=tuple(r for r in self.recovered if r.signature not in self._findings),
            rules=tuple(
                RuleUse(
                    rule.id,
                    rule.sentence,
                    rule.kind,
                    self._rule_accepted[rule.id],
                    self._rule_refused[rule.id],
                    rule.unreachable,
                )
                for rule in self.dialect.rules()
            ),
            findings=tuple(self._findings.values()),
            notes=tuple(self.notes.told()),
            witnesses=tuple(self.witnesses.items()),
            known_issues=tuple(sorted(self._known_issues.items())),
            job_states=tuple((state, self._job_states[state]) for state in get_args(Status)),
            reopened_with_job=self.reopened_with_job,
            read_data=self.read_data,
        )


def _entered(expectation: Expectation) -> list[str]:
    """The states that jobs came to in one step."""
    return [
        event["data"]["status"]
        for event in expectation.observation.events
        if event["event"] == "JOB_STATUS_CHANGE"
    ]


def _reopens_with_job(example: Example) -> bool:
    """Whether a node is reopened, or that is refused, while a job is alive.

    A reopen that the input check refuses does not count.
    """
    busy = False
    for command, expectation in zip(example.trace.commands, example.expectations, strict=False):
        if busy and name_of(command) in REOPENS:
            checked = not any(rule.startswith("qapi.") for rule in expectation.refused)
            if checked:
                return True
        busy = expectation.busy
    return False


def _reads_data(example: Example) -> bool:
    """Whether what a guest reads is compared."""
    return any(
        name_of(command) == READ and "return" in expectation.observation.reply
        for command, expectation in zip(example.trace.commands, example.expectations, strict=False)
    )
