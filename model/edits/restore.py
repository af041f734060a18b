# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command leaves behind: nothing where it was refused, and what was put off till its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.edits.users import remove_user
from model.graph.aio_contexts import drain, in_use, leave, need_lock
from model.graph.driver import driver_of
from model.graph.transition import Transition
from model.graph.traversal import driver_at

if TYPE_CHECKING:
    from model.graph.transition import Transition


def restore(t: Transition) -> None:
    """Forget what was done, order included: nothing that existed was moved.

    How a file is open by now stays as it is, and contexts are those that are left when
    the nodes that were opened have gone.
    """
    unwind(t)
    done, t.nodes = t.nodes, dict(t.before.nodes)
    t.held = {}
    for name, node in done.items():
        if name in t.nodes and t.nodes[name].context != node.context:
            t.change(name, context=node.context)
        if name in t.nodes and t.nodes[name].limits != node.limits:
            t.change(name, limits=node.limits)
    for name, node in t.before.nodes.items():
        settled = done[name]
        driver = driver_of(node.driver)
        if settled.private != node.private and driver.settled_for_good(settled):
            t.change(name, private=settled.private)
        if any(link.kept is not None for link in node.children):
            # What was worked out anew on the way stays so.
            fresh = {link.key for link in done[name].children if link.kept is None}
            children = (
                attrs.evolve(link, kept=None) if link.key in fresh else link
                for link in node.children
            )
            t.change(name, children=tuple(children))
    t.grants, t.settled = None, dict(t.nodes)


def catch_up(t: Transition) -> None:
    """Let the nodes that are still there do what they put off, the last one first."""
    while t.later:
        name, _ = t.later.popitem()
        if name in t.nodes:
            driver_at(t, name).catch_up(t, t.nodes[name])


def unwind(t: Transition) -> None:
    """Nodes that were being opened are closed again: what they held on to goes back."""
    for key in [key for key in t.users if key not in t.before.users]:
        for _, node in t.users[key].links:
            drain(t, node)
        remove_user(t, key)
    if not in_use(t):
        return
    left: list[str] = []
    for name in [name for name in t.nodes if name not in t.before.nodes]:
        need_lock(t, name)
        for link in t.nodes[name].children:
            t.detach(link.key)
            left.append(link.child)
    for name in left:
        leave(t, name)
