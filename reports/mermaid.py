# SPDX-License-Identifier: GPL-2.0-or-later
"""The block graph as Mermaid text, which Markdown viewers draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.state import BlockState
    from model.trace import Json, Observation

_LETTER = {"consistent-read": "r", "write": "w", "write-unchanged": "u", "resize": "s"}
_NOTHING = 'flowchart TD\n    empty["no nodes"]\n'


@attrs.frozen
class Box:
    """A node of the graph: its name, its driver and whether it may be written to."""

    name: str
    driver: str = ""
    read_only: bool = False


@attrs.frozen
class Arrow:
    """A child link: parent, name of the child, child, and its permissions where known."""

    parent: str
    name: str
    child: str
    perm: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None


def of_state(state: BlockState) -> str:
    """Draw the model's state."""
    boxes = [Box(node.name, node.driver, node.read_only) for node in state.nodes.values()]
    arrows = [Arrow(link.parent, link.name, link.child) for link in state.links()]
    return draw(boxes, arrows)


def of_observation(observation: Observation | None) -> str:
    """Draw what a target showed, with permissions; text saying so where it showed nothing."""
    if observation is None or observation.graph is None:
        return 'flowchart TD\n    unknown["not observed"]\n'
    details = {str(node.get("node-name")): node for node in observation.nodes or ()}
    labels: dict[Json, str] = {}
    boxes = []
    for vertex in observation.graph.get("nodes", ()):
        kind = str(vertex.get("type", ""))
        name = str(vertex.get("name") or kind)
        labels[vertex.get("id")] = name
        node = details.get(name, {})
        boxes.append(Box(name, str(node.get("drv", "")) or kind, bool(node.get("ro", False))))
    arrows = [
        Arrow(
            labels.get(edge.get("parent"), "?"),
            str(edge.get("name", "")),
            labels.get(edge.get("child"), "?"),
            tuple(edge.get("perm", ())),
            tuple(edge.get("shared-perm", ())),
        )
        for edge in observation.graph.get("edges", ())
    ]
    return draw(boxes, arrows)


def draw(boxes: Iterable[Box], arrows: Iterable[Arrow]) -> str:
    """Mermaid text; permissions as letters: r(ead) w(rite) u (write-unchanged) s (resize)."""
    identifiers: dict[str, str] = {}
    lines = ["flowchart TD"]
    for box in boxes:
        identifier = identifiers.setdefault(box.name, f"n{len(identifiers)}")
        told = escape(box.name)
        if box.driver:
            told += f"<br/>{escape(box.driver)}{', read-only' if box.read_only else ''}"
        lines.append(f'    {identifier}["{told}"]')
    if not identifiers:
        return _NOTHING
    for arrow in arrows:
        parent = identifiers.get(arrow.parent)
        child = identifiers.get(arrow.child)
        if parent is None or child is None:
            continue
        told = escape(arrow.name)
        if arrow.perm is not None and arrow.shared is not None:
            told += f"<br/>{letters(arrow.perm)} / {letters(arrow.shared)}"
        lines.append(f'    {parent} -->|"{told}"| {child}')
    return "\n".join(lines) + "\n"


def letters(permissions: Iterable[str]) -> str:
    """Permissions as letters in a fixed order, ``-`` for none."""
    given = set(permissions)
    told = "".join(letter for name, letter in _LETTER.items() if name in given)
    told += "".join(f"[{name}]" for name in sorted(given - set(_LETTER)))
    return told or "-"


def escape(text: str) -> str:
    """Text that Mermaid takes literally within quotes."""
    return (
        text.replace("#", "#35;")
        .replace('"', "#quot;")
        .replace("<", "#lt;")
        .replace(">", "#gt;")
        .replace("\n", " ")
    )
