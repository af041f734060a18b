# SPDX-License-Identifier: GPL-2.0-or-later
"""Chains of images: finding one's way in them, and changing them from inside.

A chain goes from a node to what it filters, and from an image to its backing file. Clients
change chains by opening and reopening nodes; what is here is what jobs do to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data.image_access import image_of
from model.edits.links import (
    attach_child,
    drop_link,
    is_heir,
    release,
    remove_child,
    set_inherits,
    unset_inherits,
)
from model.edits.users import replace_node
from model.graph.chain import skip_implicit
from model.graph.driver import driver_of
from model.graph.request_limits import take_limits
from model.graph.traversal import driver_at, filename_of, link_below, topological
from model.operations.open import Opening
from model.operations.reopen import FROZEN, NO_BACKING_FILES, keep_options
from model.permissions.check_update import FROM_EACH
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen, refresh
from model.release.rules import Refusal, effect, guard, hazard
from model.values.state import FrozenDict, Link, Node, Role, Use

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions
    from model.graph.transition import Transition, Undo

BACKING_STRING = guard(
    "chain.backing-string",
    "The name of a backing file that is written into an image has at most 1023 bytes, and only "
    "some formats have room for one.",
    source="7.2",
    text="Could not update backing file link: {reason}",
    unreachable="a job that meets it fails by itself, and tells another text",
)

LONGEST_BACKING_STRING = 1023


def set_backing(t: Transition, name: str, backing: str | None) -> None:
    """Give a node another backing file, or none. Raises :class:`Refusal`; all is as before then.

    What the old backing file required of its own children it goes on requiring: nobody asks it.
    """
    undo = t.undo()
    old = t.nodes[name].link("backing")
    before = Permissions(dict(t.nodes), {})
    try:
        _exchange_backing(t, t.nodes[name], old, backing, undo)
        refresh(t, [name])
    except Refusal:
        undo.abort()
        if old is not None and not old.frozen and t.ev.holds(LOSES_BACKING):
            unset_inherits(t, name, old.name, None)
            drop_link(t, old)
        raise
    if old is not None:
        keep_grants(t, old.child, before, above=name)
    undo.commit()


def _exchange_backing(
    t: Transition, node: Node, old: Link | None, backing: str | None, undo: Undo
) -> None:
    ev = t.ev
    driver = driver_of(node.driver)
    if old is not None:
        ev.check(FROZEN, not old.frozen, name=old.name, parent=node.name, child=old.child)
    has_backing = driver.is_filter or driver.supports_backing
    ev.check(NO_BACKING_FILES, has_backing, driver=driver.name, node=node.name)
    inherits = backing is not None and is_heir(t, backing, node.name)
    if old is not None:
        unset_inherits(t, node.name, old.name, undo)
        remove_child(t, old.key, undo)
    if backing is not None:
        role = Role.FILTER if driver.is_filter else Role.COW
        attach_child(t, node.name, "backing", backing, role, undo)
        if inherits:
            set_inherits(t, backing, node.name, undo)
    take_limits(t, node.name, undo)


def keep_grants(t: Transition, name: str, before: Permissions, *, above: str | None = None) -> None:
    """Below a node that has lost a parent, links keep what they required and shared ``before``.

    What can still be reached from ``above`` has been asked anew; before 6.1 all of it is.
    """
    if t.ev.holds(FROM_EACH):
        loosen(t, name, before)
        return
    fresh = () if above is None else topological(t.nodes, [above])
    now = Permissions(t.nodes, {})
    stale = [n for n in topological(t.nodes, [name]) if n not in fresh]
    links = [link for n in stale for link in t.nodes[n].children]
    kept = {
        link.key: before.grant(link.key)
        for link in links
        if before.grant(link.key) != now.grant(link.key)
    }
    for parent in dict.fromkeys(key[0] for key in kept):
        children = tuple(
            attrs.evolve(link, kept=kept[link.key]) if link.key in kept else link
            for link in t.nodes[parent].children
        )
        t.change(parent, children=children)


def can_name_backing(t: Transition, name: str, filename: str | None) -> bool:
    """Whether the name of a backing file can be written into the image of a node."""
    if not driver_at(t, name).supports_backing:
        return False
    return filename is None or len(filename.encode()) <= LONGEST_BACKING_STRING


def change_backing_file(
    t: Transition, name: str, filename: str | None, backing_format: str | None
) -> None:
    """Write the name and the format of a backing file into an image.

    Raises :class:`Refusal` where there is no room for it.
    """
    fits = can_name_backing(t, name, filename)
    known = driver_at(t, name).supports_backing
    reason = "Invalid argument" if known else "Operation not supported"
    t.ev.check(BACKING_STRING, fits, reason=reason)
    image = image_of(t, t.nodes[name])
    if image is not None:
        t.images[image.name] = attrs.evolve(
            image, backing=filename, backing_format=backing_format if filename else None
        )
    t.change(
        name,
        backing_file=filename or "",
        backing_format=backing_format or "",
        auto_backing_file=filename or "",
    )


def set_read_only(t: Transition, name: str, *, read_only: bool) -> None:
    """Reopen a node read-only or not, and leave everything else as it is. Raises Refusal."""
    keep_options(t, name, {"read-only": read_only})


def try_read_only(t: Transition, name: str) -> None:
    """Reopen a node read-only if that is possible; nobody hears of it if not."""
    try:
        set_read_only(t, name, read_only=True)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)


def new_node(
    t: Transition,
    driver: str,
    name: str | None,
    *,
    read_only: bool,
    implicit: bool = False,
    never_frozen: bool = False,
    size: int = 0,
    private: Any = None,
    options: FlatOptions | None = None,
) -> str:
    """Make a node of a driver that no client can ask for; a name is made up if there is none.

    The node has no children yet. Raises :class:`Refusal` for a bad name.
    """
    given = Opening(t).name(name)
    effective = {
        **(options or {}),
        "cache.direct": False,
        "cache.no-flush": False,
        "read-only": read_only,
        "auto-read-only": False,
    }
    t.nodes[given] = Node(
        given,
        driver,
        options=FrozenDict(effective),
        explicit=FrozenDict(options or {}),
        read_only=read_only,
        implicit=implicit,
        never_frozen=never_frozen,
        size=size,
        private=private,
    )
    return given


APPENDED_TO_COMPRESS = hazard(
    "hazard.appended-to-compress",
    "A mirror, a commit or a snapshot puts a node right above a compress filter.",
    source="10.0 and 11.1 hang, whether or not the command would be refused",
)


def beware_of_compress(t: Transition, top: str) -> None:
    """Notice that a node is about to be put above ``top``."""
    if t.nodes[top].driver == "compress":
        t.ev.meet(APPENDED_TO_COMPRESS)


def append(t: Transition, new: str, top: str) -> None:
    """Put a node that has no backing file yet above ``top``, whose users go over to it.

    Raises :class:`Refusal`; the new node is gone then unless somebody else holds on to it.
    """
    beware_of_compress(t, top)
    undo = t.undo()
    role = Role.FILTER if driver_at(t, new).is_filter else Role.COW
    try:
        attach_child(t, new, "backing", top, role, undo)
        replace_node(t, top, new, undo)
        refresh(t, [new])
    except Refusal:
        undo.abort()
        take_limits(t, top)
        release(t, new)
        raise
    undo.commit()
    # Those of the node below are worked out anew, not those of the one that is put there.
    take_limits(t, top)


def replace(t: Transition, old: str, new: str, *, skip: bool = True) -> None:
    """Let the users of a node go over to another one. Raises :class:`Refusal`, as before then."""
    undo = t.undo()
    try:
        replace_node(t, old, new, undo, skip=skip)
        # Before 6.1 nobody asks the node that has lost its users.
        refresh(t, [new] if t.ev.holds(FROM_EACH) else [new, old])
    except Refusal:
        undo.abort()
        raise
    undo.commit()


def drop_filter(t: Transition, name: str) -> None:
    """Let the users of a filter go over to what it filters, which it loses.

    Raises :class:`Refusal`, and nothing has changed then.
    """
    link = link_below(t, name)
    if link is None:
        raise LookupError(f"filter {name!r} has nothing below")
    undo = t.undo()
    try:
        replace_node(t, name, link.child, undo)
        remove_child(t, link.key, undo)
        refresh(t, [link.child, name])
    except Refusal:
        undo.abort()
        raise
    undo.commit()


LOSES_BACKING = effect(
    "chain.loses-backing",
    "An image that cannot have the backing file that a job means it to have, has none.",
    source="5.2",
)
OVERLAYS_RENAMED = effect(
    "chain.overlays-renamed",
    "The images above those that a commit has taken out name the base as their backing file.",
    source="7.2",
)


def drop_between(t: Transition, top: str, base: str, backing_file: str | None) -> str | None:
    """Let the users of ``top`` go over to ``base``, far below; images name the new backing file.

    Returns why that failed, as the host would say it.
    """
    ev = t.ev
    explicit = skip_implicit(t, top)
    inherits = is_heir(t, base, explicit)
    heir = t.nodes[explicit].inherits_from
    filename = filename_of(t, base) if backing_file is None else backing_file
    parents = [key for key in reversed(t.nodes[top].parents) if not isinstance(key, Use)]
    undo = t.undo()
    try:
        replace_node(t, top, base, undo, skip=False)
        refresh(t, [base, top])
    except Refusal as refusal:
        ev.refused.discard(refusal.rule.id)
        undo.abort()
        return "Input/output error"
    for parent, name in parents:
        link = t.nodes[parent].link(name)
        if link is not None and link.role & Role.COW and ev.holds(OVERLAYS_RENAMED):
            error = _rename_backing(t, parent, filename, t.nodes[base].driver)
            if error is not None:
                undo.commit()
                return error
    if inherits:
        t.change(base, inherits_from=heir)
    undo.commit()
    return None


def _rename_backing(t: Transition, name: str, filename: str, backing_format: str) -> str | None:
    """Write another backing file into an image, which is made writable for the moment."""
    read_only = t.nodes[name].read_only
    try:
        if read_only:
            set_read_only(t, name, read_only=False)
        change_backing_file(t, name, filename, backing_format)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        return "Invalid argument"
    finally:
        if read_only:
            try_read_only(t, name)
    return None
