# SPDX-License-Identifier: GPL-2.0-or-later
"""throttle: a filter that belongs to a group with limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.drivers.filter import Filter
from model.graph.driver import FlatOptions, Opener, absorb
from model.graph.traversal import primary_length
from model.release.rules import guard, outside
from model.values.state import Node, ThrottleGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.transition import Transition

_RATES = frozenset({"bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"})


NO_GROUP = guard(
    "throttle.group",
    "A throttle node belongs to a throttle group that exists.",
    source="7.2",
    text="Throttle group '{id}' does not exist",
)


THROTTLES = outside(
    "throttle.throttles",
    "No request waits for a throttle limit.",
    text="the limits of throttle group '{group}' are so low that somebody may wait, which is not "
    "modelled",
)


_LEAST_BYTES, _LEAST_REQUESTS = 10**10, 10**7
"""Limits a second that nothing which is read or written here ever reaches."""


def _is_low(limits: Mapping[str, int]) -> bool:
    """Whether somebody might have to wait for one of the limits of a group."""
    return any(
        0 < value < (_LEAST_BYTES if key.startswith("bps") else _LEAST_REQUESTS)
        for key, value in limits.items()
        if key in _RATES
    )


class Throttle(Filter):
    """Limits I/O by a group's rates."""

    name = "throttle"
    can_reopen = True
    can_compress = True
    strong = ("throttle-group",)
    stops_slowly = True
    others = ("file",)
    kinds = {"throttle-group": "string"}

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """The child first, then the group."""
        self.open_child(opener, name, options)
        t = opener.t
        t.change(name, private=self._group(t, options), size=primary_length(t, t.nodes[name]))

    def follow(self, t: Transition, node: Node, *, opening: bool) -> None:
        """A limit may be reached here."""
        group = t.objects.get(node.private)
        if isinstance(group, ThrottleGroup) and _is_low(group.limits):
            t.ev.leave(THROTTLES, "object-add/throttle-group.limits", group=group.id)

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """The node may move to another group."""
        return self._group(t, options)

    def _group(self, t: Transition, options: FlatOptions) -> str:
        own = absorb(t.ev, options, self.kinds)
        group = own.get("throttle-group", "")
        t.ev.check(NO_GROUP, isinstance(t.objects.get(group), ThrottleGroup), id=group)
        return str(group)
