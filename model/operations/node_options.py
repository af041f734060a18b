# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that every node has, and those that a child gets from its parent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from model.graph.driver import FlatOptions, as_bool
from model.release.rules import Evaluation, effect, guard, outside
from model.release.scope import Outside
from model.values.state import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.transition import Transition

DETECT_ZEROES = guard(
    "open.detect-zeroes-unmap",
    "Zeroes are only unmapped where discard is unmap, too.",
    source="7.2; series-v1 checks it on reopen as well",
    text="setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
)


INACTIVE = outside(
    "open.unmodelled-inactive",
    "Nodes are active, which is the default.",
    text="an inactive node is not modelled",
)


INHERIT_READ_ONLY = effect(
    "inherit.read-only",
    "A child that is opened inline is as read-only as its parent.",
    source="7.2",
)


INHERIT_COW_READ_ONLY = effect(
    "inherit.backing-read-only",
    "A backing file is opened read-only.",
    source="7.2",
)


INHERIT_CACHE = effect(
    "inherit.cache",
    "A child that is opened inline has its parent's cache mode.",
    source="7.2",
)


INHERIT_FORCE_SHARE = effect(
    "inherit.force-share",
    "A child that is opened inline is shared by force if its parent is.",
    source="7.2",
)


INHERIT_DISCARD = effect(
    "inherit.discard",
    "A child that is opened inline passes discards on, whatever its parent does.",
    source="7.2",
)


GENERIC = (
    "driver",
    "node-name",
    "discard",
    "cache",
    "cache.direct",
    "cache.no-flush",
    "read-only",
    "auto-read-only",
    "force-share",
    "detect-zeroes",
)
"""The options that every driver has."""


GENERIC_OUTSIDE = {
    "active": Outside("an inactive node, which others may write meanwhile", (True,), "it is opened")
}


_ON = (True, "on")


class Flags(NamedTuple):
    """The generic options as a node holds them once they are parsed."""

    read_only: bool
    auto_read_only: bool
    no_cache: bool
    no_flush: bool

    @classmethod
    def of(cls, options: FlatOptions) -> Flags:
        """What ``options`` say; what they do not say is off."""
        get = options.get
        return cls(
            get("read-only") in _ON,
            get("auto-read-only") in _ON,
            get("cache.direct") in _ON,
            get("cache.no-flush") in _ON,
        )


def check_active(ev: Evaluation, options: FlatOptions) -> None:
    """Take out what a release with inactive nodes is told about that."""
    if not as_bool(options.pop("active", True)):
        ev.leave(INACTIVE, "blockdev-add.active")


def inherit_options(
    t: Transition, role: int, options: FlatOptions, parent_options: Mapping[str, Any]
) -> None:
    """Fill in what a child that is opened inline gets from its parent."""
    ev = t.ev

    def copy(key: str) -> None:
        if key not in options and key in parent_options:
            options[key] = parent_options[key]

    if ev.holds(INHERIT_CACHE):
        copy("cache.direct")
        copy("cache.no-flush")
    if "force-share" in parent_options and ev.holds(INHERIT_FORCE_SHARE):
        copy("force-share")
    if role & Role.COW:
        if ev.holds(INHERIT_COW_READ_ONLY):
            options.setdefault("read-only", "on")
            options.setdefault("auto-read-only", "off")
    elif ev.holds(INHERIT_READ_ONLY):
        copy("read-only")
        copy("auto-read-only")
    if ev.holds(INHERIT_DISCARD):
        options.setdefault("discard", "unmap")
