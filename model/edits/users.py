# SPDX-License-Identifier: GPL-2.0-or-later
"""Users of the graph who are no nodes: letting them hold on to a node, let go, and move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.edits.links import release, replace_child
from model.graph import aio_contexts
from model.graph.traversal import topological
from model.permissions.check_update import FROM_EACH, Descent
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen, refresh
from model.release.rules import Refusal, effect, guard
from model.values.state import Grant, LinkKey, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition, Undo

FROZEN_REPLACE = guard(
    "graph.frozen-replace",
    "A node cannot be replaced under a parent whose link to it is frozen.",
    source="patch 1/13 (freezing links)",
    text="Cannot change '{name}' link to '{node}'",
)
STAYS = guard(
    "graph.stays",
    "A link of a job stays at its node; where every link must go over, that is refused.",
    source="7.2, as for a child that lies below its new place",
    text="Should not change '{name}' link to '{node}'",
    unreachable="who stays at the filter of a commit has put a filter there: hazard.bitmap-lost",
)
USERS_REVERSED = effect(
    "graph.users-reversed",
    "The users of a node that is replaced go over to the new one newest first, so that the oldest "
    "is the newest there.",
    source="6.1; before, they keep their order",
)


def replace_node(t: Transition, old: str, new: str, undo: Undo, *, skip: bool = True) -> None:
    """Let every parent of ``old`` lead to ``new``, but those that lie below ``new`` itself.

    Users that stay at their node stay. Unless it is all right to ``skip`` one, either refuses.
    """
    below = set(topological(t.nodes, [new]))
    # Since 6.1 each goes over as it is found, so that those before one that is refused have moved.
    at_once = t.ev.holds(USERS_REVERSED)
    moving: list[LinkKey | Use] = []
    for key in t.nodes[old].parents:
        if not _goes_over(t, key, old, below, skip=skip):
            continue
        if at_once:
            _move(t, key, new, undo)
        else:
            moving.append(key)
    for key in reversed(moving):
        _move(t, key, new, undo)


def _goes_over(
    t: Transition, key: LinkKey | Use, node: str, below: set[str], *, skip: bool
) -> bool:
    """Whether a parent leads elsewhere when its node is replaced; refuses where it may not."""
    if isinstance(key, Use):
        if key.stays:
            t.ev.check(STAYS, skip, name=key.label, node=node)
        return not key.stays
    link = t.nodes[key[0]].link(key[1])
    if link is None:
        return False
    if link.parent in below:
        t.ev.check(STAYS, skip, name=link.name, node=node)
        return False
    t.ev.check(FROZEN_REPLACE, not link.frozen, name=link.name, node=node)
    return True


def _move(t: Transition, key: LinkKey | Use, new: str, undo: Undo) -> None:
    if isinstance(key, Use):
        _move_use(t, key, new, undo)
    else:
        replace_child(t, key, new, undo)


def add_use(
    t: Transition,
    user: str,
    label: str,
    node: str,
    grant: Grant,
    *,
    stays: bool,
    description: str,
) -> Use:
    """Let a user hold on to a node, requiring and sharing ``grant``.

    Raises :class:`Refusal` where others do not agree; nothing has changed then.
    """
    if t.ev.holds(FROM_EACH):
        Descent(t, {}).check_users(node, *grant, ())
    places = aio_contexts.join(t, user, node)
    before = dict(t.nodes)
    holder = t.users[user]
    name = label
    while any(name == known for known, _ in holder.links):
        base, _, number = name.partition("#")
        name = f"{base}#{int(number or 0) + 1}"
    use = Use(user, name, *grant, stays, description)
    t.change(node, parents=(use, *t.nodes[node].parents))
    try:
        refresh(t, [node])
    except Refusal:
        t.nodes = before
        aio_contexts.part(t, user, node, places)
        raise
    t.users[user] = attrs.evolve(holder, links=((name, node), *holder.links))
    return use


def remove_use(t: Transition, user: str, name: str) -> None:
    """Let a user's hold on a node go; what it required is required no more."""
    node, use = t.used(user, name)
    before = Permissions(dict(t.nodes), {})
    _take_use(t, node, use)
    holder = t.users[user]
    links = tuple(link for link in holder.links if link[0] != name)
    t.users[user] = attrs.evolve(holder, links=links)
    loosen(t, node, before)
    aio_contexts.leave(t, node)
    release(t, node)


def remove_user(t: Transition, user: str) -> None:
    """Forget a user, who lets go of everything, the newest first."""
    while t.users[user].links:
        remove_use(t, user, t.users[user].links[0][0])
    del t.users[user]


def _take_use(t: Transition, node: str, use: Use) -> None:
    parents = t.nodes[node].parents
    t.change(node, parents=tuple(key for key in parents if key is not use))


def _move_use(t: Transition, use: Use, new: str, undo: Undo) -> None:
    """Let a user's link lead to another node; the old one is released when it is settled."""
    old, _ = t.used(use.user, use.name)

    def move(origin: str, goal: str) -> None:
        _take_use(t, origin, use)
        t.change(goal, parents=(use, *t.nodes[goal].parents))
        holder = t.users[use.user]
        links = tuple((n, goal if n == use.name else x) for n, x in holder.links)
        t.users[use.user] = attrs.evolve(holder, links=links)

    move(old, new)
    undo.add(lambda: move(new, old), lambda: release(t, old))
