# SPDX-License-Identifier: GPL-2.0-or-later
"""The block graph as Mermaid text, which Markdown viewers draw."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from reports.limits import MOST_DRAWN, MOST_TITLE
from reports.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.values.state import BlockState
    from model.values.trace import Json, Observation

_LETTER = {"consistent-read": "r", "write": "w", "write-unchanged": "u", "resize": "s"}
_SPECIAL = re.compile('[#"<>`%]')
_NAMED = {'"': "quot", "<": "lt", ">": "gt"}
_NOTHING = 'flowchart TD\n    empty["no nodes"]\n'


Shape: TypeAlias = Literal["node", "job", "backend"]
"""What a box stands for: a block node, a job, or a block backend (an export's, a job's own)."""

_OUTLINE: dict[Shape, tuple[str, str]] = {
    "node": ("[", "]"),
    "job": ("{{", "}}"),
    "backend": ("([", "])"),
}


@attrs.frozen
class Box:
    """A node of the graph, or one of its users.

    ``key`` is how arrows refer to it, ``name`` and ``told`` are what is written into it: the
    driver and whether it may be written to, or a job's type and state.
    """

    key: str
    name: str
    told: str = ""
    shape: Shape = "node"


@attrs.frozen
class Arrow:
    """A child link: parent, name of the child, child, and its permissions where known."""

    parent: str
    name: str
    child: str
    perm: tuple[str, ...] | None = None
    shared: tuple[str, ...] | None = None
    frozen: bool = False


def _node(key: str, name: str, driver: str, *, read_only: bool) -> Box:
    return Box(key, name, f"{driver}, read-only" if read_only and driver else driver)


def of_state(state: BlockState) -> str:
    """Draw the model's state: nodes, the jobs and exports on them, and which links are frozen."""
    boxes = [
        _node(node.name, node.name, node.driver, read_only=node.read_only)
        for node in state.nodes.values()
    ]
    arrows = [
        Arrow(link.parent, link.name, link.child, frozen=bool(link.frozen))
        for link in state.links()
    ]
    exports = {export.user: f"export {export.id}" for export in state.exports.values()}
    for user in state.users.values():
        job = state.jobs.get(user.name) if user.kind == "block-job" else None
        told = f"{job.type} job, {job.status}" if job else ""
        name = user.name or exports.get(user.key, user.kind)
        boxes.append(Box(user.key, name, told, "job" if job else "backend"))
        arrows += [Arrow(user.key, label, node) for label, node in user.links]
    return draw(boxes, arrows)


def of_observation(observation: Observation | None) -> str:
    """Draw what a target showed, with permissions; text saying so where it showed nothing."""
    if observation is None or observation.graph is None:
        return 'flowchart TD\n    unknown["not observed"]\n'
    boxes = [_vertex(vertex, observation) for vertex in dicts(observation.graph.get("nodes"))]
    arrows = [
        Arrow(
            str(edge.get("parent")),
            str(edge.get("name", "")),
            str(edge.get("child")),
            _texts(edge.get("perm")),
            _texts(edge.get("shared-perm")),
        )
        for edge in dicts(observation.graph.get("edges"))
    ]
    return draw(boxes, arrows)


def dicts(value: Json) -> list[dict[str, Json]]:
    """The objects in a list, whatever a target has sent instead."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _vertex(vertex: dict[str, Json], observation: Observation) -> Box:
    """A vertex of the graph with what the other queries tell of it."""
    kind, key = str(vertex.get("type", "")), str(vertex.get("id"))
    name = str(vertex.get("name") or kind)
    if kind == "block-job":
        for job in dicts(observation.jobs):
            if job.get("device") == name:
                return Box(key, name, f"{job.get('type')} job, {job.get('status')}", "job")
        return Box(key, name, kind, "job")
    if kind == "block-backend":
        return Box(key, name, "" if name == kind else kind, "backend")
    for node in dicts(observation.nodes):
        if node.get("node-name") == name:
            return _node(key, name, str(node.get("drv", "")), read_only=bool(node.get("ro")))
    return Box(key, name, kind)


def draw(boxes: Iterable[Box], arrows: Iterable[Arrow]) -> str:
    """Mermaid text; permissions as letters: r(ead) w(rite) u (write-unchanged) s (resize)."""
    identifiers: dict[str, str] = {}
    lines = ["flowchart TD"]
    more = 0
    for box in boxes:
        if len(identifiers) == MOST_DRAWN and box.key not in identifiers:
            more += 1
            continue
        identifier = identifiers.setdefault(box.key, f"n{len(identifiers)}")
        told = escape(box.name)
        if box.told:
            told += f"<br/>{escape(box.told)}"
        left, right = _OUTLINE[box.shape]
        lines.append(f'    {identifier}{left}"{told}"{right}')
    if not identifiers:
        return _NOTHING
    for arrow in arrows:
        parent = identifiers.get(arrow.parent)
        child = identifiers.get(arrow.child)
        if parent is None or child is None:
            continue
        told = escape(arrow.name)
        if arrow.frozen:
            told += ", frozen"
        if arrow.perm is not None and arrow.shared is not None:
            told += f"<br/>{letters(arrow.perm)} / {letters(arrow.shared)}"
        lines.append(f'    {parent} -->|"{told}"| {child}')
    if more:
        lines.append(f'    more["{more} more"]')
    return "\n".join(lines) + "\n"


def letters(permissions: Iterable[str]) -> str:
    """Permissions as letters in a fixed order, ``-`` for none."""
    given = set(permissions)
    told = "".join(letter for name, letter in _LETTER.items() if name in given)
    told += "".join(f"[{escape(name)}]" for name in sorted(given - set(_LETTER)))
    return told or "-"


def escape(text: str) -> str:
    """Text that Mermaid takes literally within quotes: no markup, no directive."""
    text = shown(" ".join(text.split("\n")), MOST_TITLE)
    return _SPECIAL.sub(lambda found: f"#{_NAMED.get(found[0], ord(found[0]))};", text)
