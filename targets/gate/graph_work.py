# SPDX-License-Identifier: GPL-2.0-or-later
"""How much work the graphs of a trace make for QEMU, which walks every path through them.

QEMU goes from a node to each child as often as the node has it, and at every level again: thirty
floors of nodes with two links each are a billion paths. At each place it writes down what is below.
When a node gets another parent, all of its parents are compared with each other. So this is added
up, from what a trace says, without walking the paths:

* the **paths** of a node: one, and those of its children, once for each link;
* the **text** of a node: its paths, and the text of its children, once for each link;
* the **pairs** of a node: its links from above, squared.

What comes of a command is not known here. What adds something is taken to succeed; a link back up
is not counted, since QEMU refuses cycles. A trace that takes longer all the same is ended by its
time (:mod:`targets.daemons.exchange`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

from model.values.trace import name_of
from targets.gate.kinds import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from model.values.trace import Command, ImageSpec, Json, Trace

MOST_WORK = 1_500_000
"""The work of all steps of a trace together: a few seconds, or up to twenty on a busy machine."""
MOST_AT_ONCE = 250_000
"""The work of one step."""
PER_NODE = 40
"""What a node costs at each step, where a text of one costs one."""
PAIRS = 25
"""So many pairs of parents cost one."""

_CHILDREN = ("backing", "data-file", "file", "image", "raw", "target", "test")
_REOPENS = frozenset({"blockdev-reopen", "x-blockdev-reopen"})
_COPIES = frozenset({"block-commit", "block-stream", "blockdev-backup", "blockdev-mirror"})
_NODES_OF_AN_IMAGE = 2
_LIGHT = 1000
"""The text of a node that is believed to be gone once a command deletes it, whoever uses it."""
_ENOUGH = 10**9
"""No weight becomes larger: it is far too much already."""


def check_work(trace: Trace) -> None:
    """Raise :class:`Refused` if the graphs of a trace would keep QEMU busy for too long."""
    for number, (now, so_far) in enumerate(work(trace), 1):
        if now > MOST_AT_ONCE or so_far > MOST_WORK:
            count, most, when = (
                (now, MOST_AT_ONCE, "one step")
                if now > MOST_AT_ONCE
                else (so_far, MOST_WORK, "all steps")
            )
            raise Refused(
                f"step {number}: too many nodes, paths through them or links to one of them: "
                f"{count} units of work, and {most} are granted to {when}: use fewer"
            )


def work(trace: Trace) -> Iterator[tuple[int, int]]:
    """Yield the work of each step, and of all so far, in the units of docs/limits.md."""
    graph, so_far = _Graph(_depths(trace.images)), 0
    for command in trace.commands:
        now = graph.follow(command)
        so_far += now
        yield now, so_far


def _depths(images: Iterable[ImageSpec]) -> dict[str, int]:
    """How many images QEMU opens with each one: itself and those below it."""
    below = {image.name: image.backing for image in images}
    depths: dict[str, int] = {}
    for name in below:
        chain: dict[str, None] = {}
        here: str | None = name
        while here in below and here not in chain and here not in depths:
            chain[here] = None
            here = below[here]
        depth = depths.get(here or "", 0)
        for each in reversed(chain):
            depth += 1
            depths[each] = depth
    return depths


@attrs.define
class _Node:
    """A node, and what it weighs; ``links`` are its children by their roles.

    ``inline``: it was described within another one, and goes with that. ``below`` are the nodes
    that QEMU opens by itself, for what is written in an image; ``filtered``: a job may have put a
    node above it.
    """

    inline: bool
    below: int
    links: dict[str, str] = attrs.Factory(dict)
    parents: Counter[str] = attrs.Factory(Counter)
    filtered: bool = False
    paths: int = 1
    text: int = 1

    @property
    def pairs(self) -> int:
        """How many pairs its parents are."""
        return self.parents.total() ** 2


class _Graph:
    """The nodes of a trace as far as it is followed."""

    def __init__(self, depths: Mapping[str, int]) -> None:
        self._depths = depths
        self._nodes: dict[str, _Node] = {}
        self._used: set[str] = set()
        self._instead: dict[str, str] = {}
        self._unnamed = 0
        self._attached = 0

    def follow(self, command: Command) -> int:
        """The work of one more step."""
        name, arguments = name_of(command), command.get("arguments")
        self._attached = 0
        if isinstance(arguments, dict):
            if name == "blockdev-add":
                self._add(arguments, inline=False)
            elif name in _REOPENS:
                options = arguments.get("options", [arguments])
                for each in options if isinstance(options, list) else ():
                    self._reopen(each)
            elif name == "blockdev-del":
                self._delete(arguments.get("node-name"))
            elif isinstance(name, str):
                self._use(name, arguments)
        nodes = self._nodes.values()
        pairs = self._attached + sum(node.pairs for node in nodes)
        return sum(PER_NODE + node.text for node in nodes) + pairs // PAIRS

    def _add(self, options: dict[str, Json], *, inline: bool) -> str:
        """Add what some options describe; its name. QEMU refuses a name that is taken."""
        name = options.get("node-name")
        if not isinstance(name, str):
            self._unnamed += 1
            name = f"unnamed {self._unnamed}"
        links = self._links(options)
        if name not in self._nodes:
            self._nodes[name] = _Node(inline, self._below(options))
        elif len(links) <= len(self._nodes[name].links):
            return name
        self._link(name, links)
        return name

    def _reopen(self, options: Json) -> None:
        """Replace those children of a node that a reopen can replace."""
        name = options.get("node-name") if isinstance(options, dict) else None
        node = self._nodes.get(name) if isinstance(name, str) else None
        if node is not None and isinstance(name, str):
            given = {role: options[role] for role in _CHILDREN if role in options}
            kept = {role: child for role, child in node.links.items() if role not in given}
            # What a reopen describes anew is there already: QEMU opens nothing.
            same = {
                role: node.links[role]
                for role, child in given.items()
                if isinstance(child, dict) and role in node.links
            }
            new = {role: child for role, child in given.items() if isinstance(child, str)}
            self._link(name, {**kept, **same, **new})

    def _links(self, options: Mapping[str, Json]) -> dict[str, str]:
        several = options.get("children")
        children = {role: options.get(role) for role in _CHILDREN}
        for number, child in enumerate(several if isinstance(several, list) else ()):
            children[f"children.{number}"] = child
        links = {}
        for role, child in children.items():
            if isinstance(child, dict):
                links[role] = self._add(child, inline=True)
            elif isinstance(child, str):
                links[role] = child
        return links

    def _below(self, options: Mapping[str, Json]) -> int:
        file = options.get("file")
        filename = file.get("filename") if isinstance(file, dict) else None
        if "backing" in options or not isinstance(filename, str):
            return 0
        return _NODES_OF_AN_IMAGE * (self._depths.get(filename.lstrip("./"), 1) - 1)

    def _link(self, name: str, links: Mapping[str, str]) -> None:
        """Let a node have these links and no others, but for those that lead back up."""
        node, above = self._nodes[name], self._above(name)
        before = Counter(node.links.values())
        for child in node.links.values():
            if child in self._nodes:
                self._nodes[child].parents[name] -= 1
        node.links = {r: c for r, c in links.items() if c in self._nodes and c not in above}
        for child in node.links.values():
            self._nodes[child].parents[name] += 1
        for child, count in Counter(node.links.values()).items():
            self._attached += max(0, count - before[child]) * self._nodes[child].pairs
        self._weigh(above)

    def _above(self, name: str) -> list[str]:
        """A node and all from which links lead down to it, each behind those below it."""
        order: dict[str, None] = {}
        seen, left = {name}, [(name, False)]
        while left:
            here, done = left.pop()
            if done:
                order[here] = None
                continue
            left.append((here, True))
            for each in self._over(here):
                if each not in seen:
                    seen.add(each)
                    left.append((each, False))
        return list(reversed(order))

    def _over(self, name: str) -> list[str]:
        parents = self._nodes[name].parents.items()
        replaced = (each for each, target in self._instead.items() if target == name)
        return [
            *(each for each, count in parents if count > 0),
            *(each for each in replaced if each in self._nodes),
        ]

    def _weigh(self, names: Iterable[str]) -> None:
        """Weigh nodes anew, those below first."""
        for name in names:
            node = self._nodes[name]
            below = [self._nodes[child] for child in node.links.values()]
            own = 1 + node.below + node.filtered
            paths = own + sum(each.paths for each in below)
            # The nodes of a chain have all that is below them in it.
            text = paths + own * (own - 1) // 2 + sum(each.text for each in below)
            instead = self._instead.get(name)
            other = None if instead is None else self._nodes.get(instead)
            if other is not None:
                paths, text = max(paths, other.paths), max(text, other.text)
            node.paths, node.text = min(paths, _ENOUGH), min(text, _ENOUGH)

    def _delete(self, name: Json) -> None:
        node = self._nodes.get(name) if isinstance(name, str) else None
        if node is None or node.parents.total() > 0:
            return
        if name in self._used and node.text > _LIGHT:
            return
        left = [name]
        while left:
            here = left.pop()
            for child in self._nodes.pop(here).links.values():
                below = self._nodes[child]
                below.parents[here] -= 1
                if below.inline and below.parents.total() <= 0:
                    left.append(child)

    def _use(self, command: str, arguments: dict[str, Json]) -> None:
        """Count what another command may do to the nodes that it names."""
        named = {each for each in _strings(arguments) if each in self._nodes}
        self._used |= named
        one = {k: v for k, v in arguments.items() if isinstance(v, str) and v in named}
        if command == "blockdev-snapshot" and {"node", "overlay"} <= one.keys():
            self._put_above(one["node"], one["overlay"])
        elif command == "x-blockdev-change" and {"node", "parent"} <= one.keys():
            parent, child = one["parent"], one["node"]
            self._link(parent, {**self._nodes[parent].links, f"children {child}": child})
        elif command in _COPIES:
            for each in sorted(named):
                node, above = self._nodes[each], self._above(each)
                node.filtered = True
                target = one.get("target")
                if target is not None and target not in above:
                    self._instead[each] = target
                self._weigh(above)

    def _put_above(self, name: str, overlay: str) -> None:
        above = [each for each, count in self._nodes[name].parents.items() if count > 0]
        self._link(overlay, {**self._nodes[overlay].links, "backing": name})
        for each in above:
            if each != overlay:
                links = self._nodes[each].links
                self._link(each, {r: overlay if c == name else c for r, c in links.items()})


def _strings(value: Json) -> Iterator[str]:
    """All texts in a value."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
