# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains of images: finding one above or below another, or by its file name."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from model.graph.filenames import Names, dirname, is_absolute
from model.graph.traversal import driver_at, link_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph.transition import Transition


def skip_filters(t: Transition, name: str) -> str:
    """The first node from ``name`` downwards that is no filter."""
    while driver_at(t, name).is_filter:
        link = link_below(t, name)
        if link is None:
            break
        name = link.child
    return name


def skip_implicit(t: Transition, name: str) -> str:
    """The first node from ``name`` downwards that no job put there unasked."""
    while t.nodes[name].implicit:
        link = link_below(t, name)
        if link is None:
            break
        name = link.child
    return name


def downwards(t: Transition, name: str | None, end: str | None = None) -> Iterator[str]:
    """The nodes of a chain from ``name`` on, without ``end`` and what lies below it."""
    while name is not None and name != end:
        link = link_below(t, name)
        yield name
        name = None if link is None else link.child


def contains(t: Transition, top: str, base: str) -> bool:
    """Whether ``base`` is ``top`` or lies below it in its chain."""
    return base in downwards(t, top)


def next_below(t: Transition, name: str) -> str | None:
    """The very next node of the chain, filter or not."""
    link = link_below(t, name)
    return None if link is None else link.child


def backing_of(t: Transition, name: str) -> str | None:
    """The backing file of a node that is no filter, which may itself be one."""
    if driver_at(t, name).is_filter:
        return None
    link = t.nodes[name].link("backing")
    return None if link is None else link.child


def backing_next(t: Transition, name: str) -> str | None:
    """The image below the first image from ``name`` downwards; filters do not count."""
    below = backing_of(t, skip_filters(t, name))
    return None if below is None else skip_filters(t, below)


def overlay_above(t: Transition, active: str, node: str | None) -> str | None:
    """The image between ``active`` and ``node`` that has ``node`` as its backing file.

    Filters do not count. Without a ``node`` it is the last image of the chain.
    """
    goal = None if node is None else skip_filters(t, node)
    current: str | None = skip_filters(t, active)
    while current is not None:
        below = backing_next(t, current)
        if below == goal:
            return current
        current = below
    return None


def base_of(t: Transition, name: str) -> str:
    """The last image of a chain."""
    base = overlay_above(t, name, None)
    if base is None:
        raise LookupError(f"the chain of {name!r} has no end")
    return base


def by_filename(t: Transition, top: str, filename: str) -> str | None:
    """The image below ``top`` whose file has this name, as the image above it calls it.

    Where the backing file is not the one that the image names, its own name counts.
    """
    names = Names(t.nodes)
    current = skip_filters(t, top)
    while (below := backing_next(t, current)) is not None:
        node = t.nodes[current]
        if names.overridden(node):
            found = names.text(below) == filename
        elif _has_protocol(filename) or _has_protocol(node.backing_file):
            found = filename in (node.backing_file, _full(t, current, node.backing_file))
        else:
            wanted = _canonical(t, _full(t, current, filename))
            found = wanted is not None and wanted == _canonical(
                t, _full(t, current, node.backing_file)
            )
        if found:
            return below
        current = below
    return None


def _has_protocol(filename: str) -> bool:
    return is_absolute(filename) and not filename.startswith("/")


def _full(t: Transition, name: str, filename: str) -> str | None:
    """A file name as seen from where a node's image lies, None where that is nowhere."""
    if is_absolute(filename):
        return filename
    directory = dirname(t.nodes, name)
    return None if directory.refused_by is not None else directory.path + filename


def _canonical(t: Transition, filename: str | None) -> str | None:
    """The one name of an image file that exists, None for others."""
    path = None if filename is None else posixpath.normpath(filename)
    return path if path in t.images else None
