# SPDX-License-Identifier: GPL-2.0-or-later
"""The reversible steps that change links between nodes, and what goes with the last of them.

What is undone is undone the way QEMU does it, step by step and newest first, because that leaves
traces that a client can see: a link that was moved and moved back is the newest of its node
afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.graph import aio_contexts, dirty_bitmaps
from model.graph.driver import driver_of
from model.graph.traversal import chain_links, reaches
from model.permissions.check_update import FROM_EACH, Descent
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen
from model.release.rules import effect, guard, hazard
from model.values.state import Link, LinkKey, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition, Undo

CYCLE = guard(
    "graph.cycle",
    "No node may become a child of itself, directly or through others.",
    source="patch 8/13 (changing the backing file); 7.2 words it for any child",
    text="Making '{child}' a {name} child of '{parent}' would create a cycle",
)
CYCLE_UNNOTICED = hazard(
    "hazard.cycle-unnoticed",
    "A node is to become a child of itself, not by a reopen.",
    source="5.2 looks for cycles in a reopen only; it ends with an assertion or a full stack",
)
FROZEN_LOST = hazard(
    "hazard.frozen-lost",
    "The filter of a commit job loses its last user, because a client takes away the overlay above "
    "or gives it another backing file.",
    source="7.2: the job does not hold on to its filter; QEMU ends with an assertion when the "
    "filter's frozen link goes",
)
INHERITS_ANYHOW = effect(
    "graph.inherits-anyhow",
    "A new backing file inherits from its overlay if it did so before, whatever lay between.",
    source="6.1; before, only through backing files and filters",
)
REPLACED_IS_NEWEST = effect(
    "graph.replaced-is-newest",
    "A link that comes to lead to another node becomes its parent's newest.",
    source="6.1; before, it keeps its place",
)
ABORT_REORDERS = effect(
    "graph.abort-reorders",
    "A link that was changed and changed back by a refused command becomes its node's newest.",
    source="7.2, seen by x-debug-query-block-graph",
)


def references(t: Transition, name: str) -> int:
    """How many hold on to a node: the monitor, its parents, a copy-on-read that ends there.

    A job holds on to what it is about to replace; ``t.keeping`` are nodes that must not go
    before the command is through with them.
    """
    node = t.nodes[name]
    count = len(node.parents) + node.monitor_owned + t.keeping.count(name)
    count += sum(job.replacing == name for job in t.jobs.values())
    for other in t.nodes.values():
        if other.private is not None and driver_of(other.driver).holds(other, name):
            count += 1
    return count


def release(t: Transition, name: str) -> None:
    """Delete a node, and what only it held on to, unless somebody still uses it."""
    node = t.nodes.get(name)
    if node is None or node.parents or references(t, name):
        return
    driver = driver_of(node.driver)
    driver.closed(t, node)
    dirty_bitmaps.lost(t, name)
    held = driver.held_by(node)
    aio_contexts.need_lock(t, name)
    closing = t.closing
    for links in driver.lets_go(t.nodes[name]):
        t.closing = False
        for link in links:
            if link.frozen:
                t.ev.meet(FROZEN_LOST)
            unset_inherits(t, name, link.name, None)
            drop_link(t, link)
            t.closing |= link.child not in t.nodes
    t.closing = closing
    del t.nodes[name]
    t.held.pop(name, None)
    if held is not None:
        release(t, held)


def drop_link(t: Transition, link: Link) -> None:
    """Take a link away for good: what it required is required no more."""
    before = Permissions(dict(t.nodes), {})
    t.detach(link.key)
    loosen(t, link.child, before)
    aio_contexts.leave(t, link.child)
    release(t, link.child)


def attach_child(t: Transition, parent: str, name: str, child: str, role: int, undo: Undo) -> None:
    """Make ``child`` a child of ``parent``; permissions are the caller's business.

    The two may have to come to one context first. Raises :class:`Refusal`.
    """
    if reaches(t.nodes, child, parent):
        t.ev.meet(CYCLE_UNNOTICED)
        t.ev.refuse(CYCLE, child=child, name=name, parent=parent)
    else:
        t.ev.accepted.add(CYCLE.id)
    link = Link(parent, name, child, role)
    if t.ev.holds(FROM_EACH):
        Descent(t, {}).check_new(link)
    places = aio_contexts.join(t, parent, child)
    t.attach(link)

    def backward() -> None:
        t.detach(link.key)
        aio_contexts.part(t, parent, child, places)

    undo.add(backward)


def remove_child(t: Transition, key: LinkKey, undo: Undo) -> None:
    """Take a child away; the child is released when the change is settled."""
    before = _lists(t, key)
    link = t.detach(key)
    undo.add(lambda: _put_back(t, link, before), lambda: release(t, link.child))


def replace_child(t: Transition, key: LinkKey, child: str, undo: Undo) -> None:
    """Let a link lead to another child; the old one is released when this is settled."""
    before = _lists(t, key)
    forced = t.nodes[before[2]].force_share != t.nodes[child].force_share
    # The parent is not asked again what it shares with another child.
    kept = Permissions(t.nodes, {}).grant(key) if forced else None
    old = t.detach(key)
    t.attach(attrs.evolve(old, child=child, kept=kept or old.kept))
    if not t.ev.holds(REPLACED_IS_NEWEST):
        new = t.nodes[key[0]].children[0]
        places = (new if link.name == key[1] else link for link in before[0])
        t.change(key[0], children=tuple(places))

    def backward() -> None:
        t.detach(key)
        _put_back(t, old, before)

    undo.add(backward, lambda: release(t, old.child))


def _lists(t: Transition, key: LinkKey) -> tuple[tuple[Link, ...], tuple[LinkKey | Use, ...], str]:
    link = t.nodes[key[0]].link(key[1])
    if link is None:
        raise LookupError(f"node {key[0]!r} has no child {key[1]!r}")
    return t.nodes[key[0]].children, t.nodes[link.child].parents, link.child


def _put_back(
    t: Transition, link: Link, before: tuple[tuple[Link, ...], tuple[LinkKey | Use, ...], str]
) -> None:
    if t.ev.holds(ABORT_REORDERS):
        t.attach(link)
    else:
        children, parents, child = before
        t.change(link.parent, children=children)
        t.change(child, parents=parents)


def is_heir(t: Transition, name: str, ancestor: str) -> bool:
    """Whether a node inherits its options from ``ancestor``, directly or through others."""
    if not t.ev.holds(INHERITS_ANYHOW) and all(
        link.child != name for link in chain_links(t, ancestor, None)
    ):
        return False
    current: str | None = name
    while current is not None and current != ancestor:
        node = t.nodes.get(current)
        current = node.inherits_from if node else None
    return current is not None


def set_inherits(t: Transition, name: str, parent: str | None, undo: Undo | None) -> None:
    """Let a node inherit its options from ``parent`` from now on."""
    old = t.nodes[name].inherits_from
    t.change(name, inherits_from=parent)
    if undo is not None:
        undo.add(lambda: _inherit(t, name, old))


def _inherit(t: Transition, name: str, parent: str | None) -> None:
    t.change(name, inherits_from=parent)


def unset_inherits(t: Transition, root: str, child_name: str, undo: Undo | None) -> None:
    """Below a child that ``root`` is about to lose, nobody inherits from ``root`` any more.

    A child that ``root`` also has under another name goes on inheriting.
    """
    link = t.nodes[root].link(child_name)
    if link is not None:
        _unset_inherits(t, root, link, undo)


def _unset_inherits(t: Transition, root: str, link: Link, undo: Undo | None) -> None:
    child = t.nodes[link.child]
    if child.inherits_from == root and not any(
        other.child == link.child and other.key != link.key for other in t.nodes[root].children
    ):
        set_inherits(t, link.child, None, undo)
    for below in child.children:
        _unset_inherits(t, root, below, undo)
