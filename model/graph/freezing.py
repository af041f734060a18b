# SPDX-License-Identifier: GPL-2.0-or-later
"""Freezing the links of a chain that somebody relies on, and letting them be changed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph.traversal import chain_links
from model.release.rules import effect, guard, hazard

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import LinkKey

NOT_FROZEN = hazard(
    "hazard.not-frozen",
    "A mirror ends whose target has come to be a backing file of its source meanwhile.",
    source="5.2 takes the links between for frozen ones, and ends with an assertion",
)
FREEZE_FROZEN = guard(
    "freeze.frozen",
    "A link that is frozen cannot be frozen again: it is a flag and no counter.",
    source="patch 1/13 (freezing links); 6.0 for copy-on-read's bottom",
    text="Cannot change '{name}' link from '{parent}' to '{child}'",
)
NEVER_FROZEN = guard(
    "freeze.never",
    "A link to the filter of a job cannot be frozen: the job must be able to take it away.",
    source="5.2",
    text="Cannot freeze '{name}' link to '{child}'",
)
FREEZES = effect(
    "freeze.freezes",
    "The links of a chain that a job or a filter relies on are frozen.",
    source="patch 1/13 (freezing links)",
)
THAWS = effect(
    "freeze.thaws",
    "Links can be changed again when nothing relies on them any more.",
    source="patch 1/13 (freezing links)",
)


def freeze_chain(t: Transition, top: str, base: str | None) -> None:
    """Freeze the links from ``top`` down to ``base``, or to the end."""
    chain = chain_links(t, top, base)
    for link in chain:
        t.ev.check(
            FREEZE_FROZEN, not link.frozen, name=link.name, parent=link.parent, child=link.child
        )
    for link in chain:
        never = t.nodes[link.child].never_frozen
        t.ev.check(NEVER_FROZEN, not never, name=link.name, child=link.child)
    if t.ev.holds(FREEZES):
        for link in chain:
            _freeze(t, link.key, 1)


def unfreeze_chain(t: Transition, top: str, base: str | None) -> None:
    """Let the links from ``top`` down to ``base``, or to the end, be changed again."""
    if t.ev.holds(THAWS):
        for link in chain_links(t, top, base):
            if not link.frozen:
                t.ev.meet(NOT_FROZEN)
            _freeze(t, link.key, -1)


def _freeze(t: Transition, key: LinkKey, by: int) -> None:
    parent = t.nodes[key[0]]
    children = tuple(
        attrs.evolve(link, frozen=max(0, link.frozen + by)) if link.key == key else link
        for link in parent.children
    )
    t.change(key[0], children=children)
