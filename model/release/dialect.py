# SPDX-License-Identifier: GPL-2.0-or-later
"""Dialects: a release or a proposal as a value.

A dialect names its schema and says how it differs from the full set of rules:
which of them it lacks, and which texts it words differently. Rules are looked up
by identifier, so nothing in the spec ever asks for a dialect's name. The values stand in
:mod:`model.release.dialects`, a module for each.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from model.release.rules import Evaluation, Rule, all_rules
from model.release.schema import Schema
from model.values.programs import STORAGE_DAEMON, Program
from model.values.state import EMPTY, FrozenDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WITHOUT = " without "
"""What stands in the name of a dialect before the rules that it was made to lack."""


class NoSuchDialectError(LookupError):
    """No dialect goes by that name."""


@attrs.frozen(slots=False)
class Dialect:
    """``absent``: identifiers of rules that it lacks. ``texts``: wordings by rule identifier.

    ``program`` is the one of the release that it is about,
    ``nullable`` are commands all optional members of whose arguments may be null, too.
    """

    name: str
    schema_name: str
    release: tuple[int, int]
    absent: frozenset[str] = frozenset()
    texts: FrozenDict[str, str] = EMPTY
    nullable: frozenset[str] = frozenset()
    program: Program = STORAGE_DAEMON

    @cached_property
    def schema(self) -> Schema:
        """The QAPI schema that commands are checked against."""
        return Schema.load(self.schema_name).taking_nulls(self.nullable)

    def evaluation(self) -> Evaluation:
        """A fresh record for one command."""
        return Evaluation(self.absent, self.texts, self.schema.devices)

    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold here, by identifier; what is outside the spec is no rule of any."""
        return tuple(
            rule for rule in all_rules() if rule.kind != "outside" and rule.id not in self.absent
        )

    def has(self, rule: Rule) -> bool:
        """Whether a rule holds here."""
        return rule.id not in self.absent

    def without(self, *rule_ids: str) -> Dialect:
        """The same dialect lacking some rules: a mutant, or the start of a proposal.

        Raises :class:`NoSuchDialectError` where there is no such rule to do without.
        """
        known = {rule.id: rule for rule in all_rules()}
        for rule_id in rule_ids:
            if rule_id not in known:
                raise NoSuchDialectError(f"no rule is called {rule_id!r}")
            if known[rule_id].kind == "outside":
                raise NoSuchDialectError(
                    f"{rule_id!r} says what is not modelled, which is so with or without it"
                )
        return attrs.evolve(
            self,
            name=f"{self.name}{WITHOUT}{', '.join(rule_ids)}",
            absent=self.absent | set(rule_ids),
        )

    def derive(
        self,
        name: str,
        release: tuple[int, int] | None = None,
        *,
        gains: Iterable[str] = (),
        loses: Iterable[str] = (),
        texts: Mapping[str, str] | None = None,
        nullable: Iterable[str] = (),
        program: Program | None = None,
    ) -> Dialect:
        """Another dialect, told by how it differs from this one.

        It has rules that this one lacks (``gains``), lacks some that this one has (``loses``), and
        words some its own way. A ``release`` has a schema of its own, a proposal has not;
        so does another ``program`` of the same release. Raises
        ValueError for a difference that is none, so that no module says more than it has to.
        """
        gained, lost = frozenset(gains), frozenset(loses)
        for rule_id in sorted((gained - self.absent) | (lost & self.absent)):
            raise ValueError(f"{name} does not differ from {self.name} in {rule_id!r}")
        return Dialect(
            name,
            self.schema_name if release is None and program is None else name,
            release or self.release,
            (self.absent - gained) | lost,
            FrozenDict({**self.texts, **(texts or {})}),
            self.nullable | frozenset(nullable),
            program or self.program,
        )
