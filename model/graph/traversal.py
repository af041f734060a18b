# SPDX-License-Identifier: GPL-2.0-or-later
"""Looking around in the graph of a transition: drivers, lengths, names, chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import Driver, driver_of
from model.graph.filenames import Names
from model.release.rules import guard, hazard
from model.values.state import Link, Node, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from model.graph.transition import Transition
    from model.values.state import Link, Node

ENDLESS_CHAIN = hazard(
    "hazard.off-chain",
    "A chain is to be frozen down to a node that it does not contain.",
    source="7.2 looks for the end of the chain for ever",
)
OFF_CHAIN = guard(
    "freeze.off-chain",
    "A chain is frozen down to a node that it contains.",
    source="our own: see hazard.off-chain",
    text="Node '{base}' is not in the backing chain of '{top}'",
    unreachable="the daemon hangs there: see hazard.off-chain",
)


def driver_at(t: Transition, name: str) -> Driver:
    """The driver of a node."""
    return driver_of(t.nodes[name].driver)


def length_of(t: Transition, name: str) -> int:
    """The length of a node in bytes."""
    node = t.nodes[name]
    return driver_of(node.driver).length(t, node)


def primary_child(t: Transition, name: str) -> str:
    """The child that holds a node's data."""
    link = driver_at(t, name).primary(t.nodes[name])
    if link is None:
        raise LookupError(f"node {name!r} has no primary child")
    return link.child


def primary_length(t: Transition, node: Node) -> int:
    """The length of the child that holds a node's data."""
    return length_of(t, primary_child(t, node.name))


def filename_of(t: Transition, name: str) -> str:
    """The file name of a node as queries show it."""
    return Names(t.nodes).text(name)


def link_below(t: Transition, name: str) -> Link | None:
    """The link to what a node filters or overlays, if there is one."""
    node = t.nodes[name]
    driver = driver_of(node.driver)
    return driver.primary(node) if driver.is_filter else node.link("backing")


def chain_links(t: Transition, top: str, base: str | None) -> list[Link]:
    """The links from ``top`` down to ``base``, or to the end: filtered and backing files."""
    links: list[Link] = []
    name = top
    while name != base:
        link = link_below(t, name)
        if link is None and base is None:
            break
        if link is None:
            t.ev.meet(ENDLESS_CHAIN)
            t.ev.refuse(OFF_CHAIN, top=top, base=base)
            break
        links.append(link)
        name = link.child
    return links


def topological(nodes: Mapping[str, Node], roots: list[str]) -> list[str]:
    """The subtrees of ``roots``, parents before children, in the order that QEMU visits them.

    The order decides which of several conflicts is reported.
    """
    order: list[str] = []
    found: set[str] = set()

    def visit(name: str) -> None:
        if name in found:
            return
        found.add(name)
        for link in nodes[name].children:
            visit(link.child)
        order.append(name)

    for root in roots:
        visit(root)
    order.reverse()
    return order


def reaches(nodes: Mapping[str, Node], start: str, goal: str) -> bool:
    """Whether ``goal`` is ``start`` or somewhere below it."""
    if start == goal:
        return True
    stack = [start]
    seen = {start}
    while stack:
        for link in nodes[stack.pop()].children:
            if link.child == goal:
                return True
            if link.child not in seen:
                seen.add(link.child)
                stack.append(link.child)
    return False


def above(nodes: Mapping[str, Node], names: Iterable[str]) -> set[str]:
    """The nodes ``names`` and all from which one of them is reached."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(key[0] for key in nodes[name].parents if not isinstance(key, Use))
    return found


def below(nodes: Mapping[str, Node], names: Iterable[str]) -> set[str]:
    """The nodes ``names`` and all that are reached from one of them."""
    found: set[str] = set()
    stack = list(names)
    while stack:
        name = stack.pop()
        if name not in found:
            found.add(name)
            stack.extend(link.child for link in nodes[name].children)
    return found


def shares_below(nodes: Mapping[str, Node], top: str) -> bool:
    """Whether some node below ``top`` is reached from there in two ways."""
    seen: set[str] = set()
    stack = [link.child for link in nodes[top].children]
    while stack:
        name = stack.pop()
        if name in seen:
            return True
        seen.add(name)
        stack.extend(link.child for link in nodes[name].children)
    return False


def links_to(nodes: Mapping[str, Node], name: str) -> list[Link]:
    """The links of other nodes that lead to a node, newest first."""
    found = []
    for key in nodes[name].parents:
        link = None if isinstance(key, Use) else nodes[key[0]].link(key[1])
        if link is not None:
            found.append(link)
    return found
