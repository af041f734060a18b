# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that a real release does not survive, kept out of the traces.

A daemon that aborts is a finding the first time and noise from then on. What is
avoided by values is listed in :mod:`strategies.catalogue`; here is what depends on
the graph:

- 7.2 drains the whole subtree of a node that it reopens and counts once per path. When
  a link changes and the old or the new child has something below it that can be reached in
  two ways, the counts disagree and the daemon aborts in
  ``bdrv_parent_drained_end_single_no_poll`` (``c->parent_quiesce_counter > 0``). Later
  releases drain differently. So a reopen keeps such a link as it is.
"""

from __future__ import annotations

from typing import Any

from strategies.describing import child_value
from strategies.scene import Scene

Options = dict[str, Any]

_CHILDREN = ("file", "backing", "image")


def tame(scene: Scene, entries: list[Options]) -> None:
    """Take back, in place, each change of a link that would bring the daemon down."""
    changed = [
        (options, name, old, new)
        for options in entries
        for name, old, new in _changes(scene, options)
    ]
    if not changed:
        return
    below = {
        node.name: [link.child for link in node.children] for node in scene.state.nodes.values()
    }
    for options, _, _, new in changed:
        if new is not None:
            below[str(options["node-name"])].append(new)
    for options, name, old, new in changed:
        if any(child is not None and _reached_twice(below, child) for child in (old, new)):
            node = scene.state.nodes[str(options["node-name"])]
            link = node.link(name)
            if link is None:
                del options[name]
            else:
                options[name] = child_value(scene, node, link, inline=0)


def _changes(scene: Scene, options: Options) -> list[tuple[str, str | None, str | None]]:
    """The links that one entry would change: their name, the child now and the child then."""
    node = scene.state.nodes.get(str(options.get("node-name")))
    if node is None:
        return []
    found: list[tuple[str, str | None, str | None]] = []
    for name in _CHILDREN:
        value = options.get(name)
        link = node.link(name)
        old = link.child if link else None
        new = value if isinstance(value, str) and value in scene.state.nodes else None
        if name in options and not isinstance(value, dict) and new != old:
            found.append((name, old, new))
    return found


def _reached_twice(below: dict[str, list[str]], top: str) -> bool:
    """Whether something below ``top`` can be reached in two ways."""
    seen: set[str] = {top}
    stack = [top]
    while stack:
        for child in below[stack.pop()]:
            if child in seen:
                return True
            seen.add(child)
            stack.append(child)
    return False
