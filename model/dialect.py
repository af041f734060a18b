# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects: a release or a proposal as a value.

A dialect names its schema and says how it differs from the full set of rules:
which of them it lacks, and which texts it words differently. Rules are looked up
by identifier, so nothing in the spec ever asks for a dialect's name.
"""

from __future__ import annotations

from functools import cached_property

import attrs

from model.rules import Evaluation, Rule, all_rules
from model.schema import Schema
from model.state import EMPTY, FrozenDict

_WITHOUT = " without "


class NoSuchDialectError(LookupError):
    """No dialect goes by that name."""


@attrs.frozen(slots=False)
class Dialect:
    """``absent``: identifiers of rules that it lacks. ``texts``: wordings by rule identifier.

    ``nullable`` are commands all optional members of whose arguments may be null, too.
    """

    name: str
    schema_name: str
    release: tuple[int, int]
    absent: frozenset[str] = frozenset()
    texts: FrozenDict[str, str] = EMPTY
    nullable: frozenset[str] = frozenset()

    @cached_property
    def schema(self) -> Schema:
        """The QAPI schema that commands are checked against."""
        return Schema.load(self.schema_name).taking_nulls(self.nullable)

    def evaluation(self) -> Evaluation:
        """A fresh record for one command."""
        return Evaluation(self.absent, self.texts)

    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold here, by identifier."""
        return tuple(rule for rule in all_rules() if rule.id not in self.absent)

    def without(self, *rule_ids: str) -> Dialect:
        """The same dialect lacking some rules: a mutant, or the start of a proposal."""
        known = {rule.id for rule in all_rules()}
        for rule_id in rule_ids:
            if rule_id not in known:
                raise NoSuchDialectError(f"no rule is called {rule_id!r}")
        return attrs.evolve(
            self,
            name=f"{self.name}{_WITHOUT}{', '.join(rule_ids)}",
            absent=self.absent | set(rule_ids),
        )


_PROPOSED = frozenset(
    {
        "proposal.null-resets",
        "proposal.omission-keeps",
        "proposal.omitted-backing-detaches",
    }
)
QEMU_7_2 = Dialect("qemu-7.2", "qemu-7.2", (7, 2), absent=_PROPOSED)

DIALECTS: dict[str, Dialect] = {d.name: d for d in (QEMU_7_2,)}


def _proposal(
    name: str, *, gains: frozenset[str] = frozenset(), loses: frozenset[str] = frozenset()
) -> Dialect:
    """An alternative that was argued for on the list, as a change to 7.2."""
    return attrs.evolve(QEMU_7_2, name=name, absent=(QEMU_7_2.absent - gains) | loses)


OMISSION_KEEPS = _proposal("omission-keeps", gains=frozenset({"proposal.omission-keeps"}))
NULL_RESETS = attrs.evolve(
    _proposal("null-resets", gains=frozenset({"proposal.omission-keeps", "proposal.null-resets"})),
    nullable=frozenset({"blockdev-reopen"}),
)
OMITTED_DETACHES = _proposal(
    "omitted-backing-detaches",
    gains=frozenset({"proposal.omitted-backing-detaches"}),
    loses=frozenset({"reopen.backing-missing"}),
)
FREEZE_COUNTER = _proposal("freeze-counter", loses=frozenset({"freeze.frozen"}))
PROPOSALS: dict[str, Dialect] = {
    d.name: d for d in (NULL_RESETS, OMISSION_KEEPS, OMITTED_DETACHES, FREEZE_COUNTER)
}


def find_dialect(name: str) -> Dialect:
    """The dialect called ``name``; :class:`NoSuchDialectError` lists those there are.

    ``NAME without RULE, RULE`` is one that lacks some of its rules.
    """
    base, _, lacks = name.partition(_WITHOUT)
    try:
        dialect = {**DIALECTS, **PROPOSALS}[base]
    except KeyError:
        names = ", ".join([*sorted(DIALECTS), *sorted(PROPOSALS)])
        raise NoSuchDialectError(f"no dialect is called {base!r}; there are: {names}") from None
    return dialect.without(*lacks.replace(",", " ").split()) if lacks else dialect


def nearest_dialect(release: tuple[int, int]) -> Dialect:
    """The dialect of the newest release not after ``release``, else of the oldest one."""
    by_release = sorted(DIALECTS.values(), key=lambda d: d.release)
    earlier = [d for d in by_release if d.release <= release]
    return earlier[-1] if earlier else by_release[0]
