# SPDX-License-Identifier: GPL-2.0-or-later
"""The file names that QEMU makes up for nodes.

A node has a plain ("exact") file name where opening that name would give the same
tree again; otherwise its name is ``json:`` and the options that would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.graph.driver import driver_of
from model.values.qdict import in_order, to_json
from model.values.state import Node, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_DIRECTORY = frozenset({"quorum", "blkverify"})
"""Drivers whose nodes lie in no directory, since their children may lie in several."""

_LONGEST_NAME = 4096
"""What is longer is cut off; an ellipsis and the end of the string take the last four bytes."""


@attrs.frozen
class Name:
    """``exact`` is "" where there is no plain name; ``full`` are options that open the tree."""

    exact: str
    full: dict[str, Any]

    @property
    def text(self) -> str:
        """The name that queries show."""
        text = self.exact or "json:" + to_json(self.full)
        return text if len(text) < _LONGEST_NAME else text[: _LONGEST_NAME - 4] + "..."


class Names:
    """The names of all nodes of one graph, computed when they are asked for."""

    __slots__ = ("_names", "_nodes")

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._names: dict[str, Name] = {}

    def text(self, name: str) -> str:
        """The file name of a node as queries show it."""
        return self.name(name).text

    def name(self, name: str) -> Name:
        """The name of a node, from the names of its children."""
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = self._make(self._nodes[name])
        return known

    def overridden(self, node: Node) -> bool:
        """Whether a node has another backing file than its image names."""
        backing = node.link("backing")
        if backing is None:
            return bool(node.auto_backing_file)
        return node.auto_backing_file != self.text(backing.child)

    def _make(self, node: Node) -> Name:
        if node.implicit:
            # Clients did not ask for it and are not told.
            return self.name(node.children[0].child)
        overridden = self.overridden(node)
        full, strong = _own_options(node)
        if driver_of(node.driver).can_add_child:
            full["children"] = [
                self.name(link.child).full
                for member in node.private.members
                if (link := node.link(member)) is not None
            ]
        else:
            for link in node.children:
                if link.name != "backing" or overridden:
                    full[link.name] = self.name(link.child).full
            if overridden and node.link("backing") is None:
                full["backing"] = None
        return Name(self._exact(node, full, strong or overridden), full)

    def _exact(self, node: Node, full: dict[str, Any], changed: bool) -> str:
        driver = driver_of(node.driver)
        if driver.makes_filename:
            children = {link.name: self.name(link.child).exact for link in node.children}
            return driver.exact_filename(node, full, children)
        primary = driver.primary(node)
        if primary is None:
            return str(node.options.get("filename", ""))
        child = self.name(primary.child)
        if driver.borrows_filename:
            return child.text
        plain = (
            driver_of(self._nodes[primary.child].driver).is_protocol
            and not driver.is_filter
            and not changed
        )
        return child.exact if plain else ""


def _own_options(node: Node) -> tuple[dict[str, Any], bool]:
    """A node's options that change what a guest reads; whether any is more than its driver."""
    options = node.options
    full = {key: options[key] for key in ("driver", "filename") if key in options}
    strong = False
    for key in driver_of(node.driver).strong:
        names = (
            [name for name in in_order(options) if name.startswith(key)]
            if key.endswith(".")
            else [key] * (key in options)
        )
        for name in names:
            full[name] = options[name]
            strong = True
    full.setdefault("driver", node.driver)
    return full, strong


def is_absolute(path: str) -> bool:
    """Whether a file name needs no directory: it has one, or a protocol."""
    if path.startswith("/"):
        return True
    colon = path.find(":")
    return colon >= 0 and "/" not in path[:colon]


@attrs.frozen
class Directory:
    """``path`` ends with a slash or is empty; ``refused_by`` names a driver that has none."""

    path: str
    refused_by: str | None = None


def dirname(nodes: Mapping[str, Node], name: str) -> Directory:
    """The directory that relative names in a node's image are relative to."""
    node = nodes[name]
    if node.driver in NO_DIRECTORY:
        return Directory("", node.driver)
    for link in node.children:
        if link.role & Role.PRIMARY:
            return dirname(nodes, link.child)
    exact = Names(nodes).name(name).exact
    if not exact:
        return Directory("", node.driver)
    return Directory(exact[: exact.rfind("/") + 1])
