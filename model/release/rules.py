# SPDX-License-Identifier: GPL-2.0-or-later
"""Rules: every decision of the spec, with a name, a sentence and a source.

There are four kinds. A *guard* may refuse a command with an error; an *effect*
says what happens (a default, an order, a step that is taken or not). A *hazard* is a
place where a release has a defect, so that what it does from there on (an assertion, a
use after free) is evidence of that defect and of nothing else; each comes with a case in
``cases/known``. *Outside* is what the spec does not model: it says so in its own voice instead of
guessing what QEMU would. All are evaluated through a :class:`Evaluation`, which records which rules
accepted, which one refused and which hazards were met. Spec coverage, the list for
readers and the mutants (a rule dropped) all come from this one registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import attrs

from model.release.catalogue import NO_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.catalogue import Catalogue

Kind = Literal["guard", "effect", "hazard", "outside"]

NOT_MODELLED: Final = "ReopencheckNotModelled"
"""The error class of what the spec does not know: no QEMU has it, so no client takes it for one."""


@attrs.frozen
class Rule:
    """One decision. ``text`` is a guard's error, a format string over named fields."""

    id: str
    sentence: str
    source: str
    kind: Kind
    text: str = ""
    unreachable: str = ""
    """Why no client can get there, for the few rules that only other code reaches."""
    ends: bool = False
    """Whether the release ends itself instead of refusing."""


class NotModelledError(Exception):
    """The spec ends here: ``rule`` says why, ``subject`` what it does not model.

    It is no :class:`Refusal`, so that nobody takes it for an answer of QEMU's, words it otherwise
    or goes on after it.
    """

    def __init__(self, rule: Rule, subject: str, text: str) -> None:
        super().__init__(text)
        self.rule = rule
        self.subject = subject
        self.text = text


class Refusal(Exception):  # noqa: N818  # a refusal is an answer, not a fault
    """A guard said no. ``rule`` says which, ``fields`` what its text speaks of."""

    def __init__(self, rule: Rule, text: str, cls: str, fields: dict[str, Any]) -> None:
        super().__init__(text)
        self.rule = rule
        self.text = text
        self.cls = cls
        self.fields = fields

    def prefixed(self, prefix: str) -> Refusal:
        """The same refusal, its text put in the context of what was being done."""
        return Refusal(self.rule, prefix + self.text, self.cls, self.fields)


_REGISTRY: dict[str, Rule] = {}


def _register(rule: Rule) -> Rule:
    if rule.id in _REGISTRY:
        raise ValueError(f"two rules are called {rule.id!r}")
    _REGISTRY[rule.id] = rule
    return rule


def guard(
    rule_id: str,
    sentence: str,
    *,
    source: str,
    text: str,
    unreachable: str = "",
    ends: bool = False,
) -> Rule:
    """Register a rule that may refuse with ``text`` (fields in braces)."""
    return _register(Rule(rule_id, sentence, source, "guard", text, unreachable, ends))


def effect(rule_id: str, sentence: str, *, source: str) -> Rule:
    """Register a rule that shapes what an accepted command does."""
    return _register(Rule(rule_id, sentence, source, "effect"))


def hazard(rule_id: str, sentence: str, *, source: str) -> Rule:
    """Register a defect: ``sentence`` says what leads there, ``source`` what then happens."""
    return _register(Rule(rule_id, sentence, source, "hazard"))


def outside(rule_id: str, sentence: str, *, text: str, source: str = "our own") -> Rule:
    """Register something that is not modelled: ``text`` says what, with fields in braces."""
    return _register(Rule(rule_id, sentence, source, "outside", f"reopencheck: {text}"))


def all_rules() -> Iterator[Rule]:
    """Every registered rule, by identifier."""
    for rule_id in sorted(_REGISTRY):
        yield _REGISTRY[rule_id]


class Evaluation:
    """One command under evaluation: what its dialect says, and what was decided so far.

    ``accepted`` and ``refused`` collect rule identifiers. A rule that the dialect
    lacks decides nothing and is not recorded. ``devices`` is what its machine has to offer.
    """

    __slots__ = ("_absent", "_texts", "accepted", "devices", "hazards", "refused", "unmodelled")

    def __init__(
        self,
        absent: frozenset[str],
        texts: dict[str, str],
        devices: Catalogue = NO_MACHINE,
    ) -> None:
        self._absent = absent
        self._texts = texts
        self.devices = devices
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.hazards: set[str] = set()
        self.unmodelled: set[str] = set()

    def check(self, rule: Rule, allowed: Any, **fields: Any) -> None:
        """Raise :class:`Refusal` unless ``allowed`` is true.

        Call :meth:`refuse` instead where the fields are dear to compute.
        """
        if allowed:
            self.accepted.add(rule.id)
        else:
            self.refuse(rule, **fields)

    def refuse(self, rule: Rule, *, cls: str = "GenericError", **fields: Any) -> None:
        """Refuse by ``rule``, unless the dialect lacks it; what is outside is answered as such."""
        if rule.kind == "outside":
            self.leave(rule, rule.id, **fields)
        if rule.id in self._absent:
            return
        self.refused.add(rule.id)
        text = self._texts.get(rule.id, rule.text).format(**fields)
        raise Refusal(rule, text, cls, fields)

    def holds(self, rule: Rule) -> bool:
        """Whether an effect is to happen; recorded when it is."""
        if rule.id in self._absent:
            return False
        self.accepted.add(rule.id)
        return True

    def meet(self, rule: Rule) -> None:
        """Note that the command meets this defect, which shows here or soon after."""
        if rule.id not in self._absent:
            self.hazards.add(rule.id)

    def leave(self, rule: Rule, subject: str, **fields: Any) -> NoReturn:
        """Answer that the spec ends here: ``subject`` is what it does not model.

        The client gets an error of our own class and the state stays as it was; ``subject`` is the
        entry of the table of what is outside the spec ("migrate", "blockdev-add/quorum.x"). No
        dialect lacks such a rule. Raises :class:`NotModelledError`.
        """
        self.unmodelled.add(subject)
        raise NotModelledError(rule, subject, rule.text.format(subject=subject, **fields))
