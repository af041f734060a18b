# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node says of the requests that it likes.

A node takes its limits from its children, and it remembers them: they are worked out when it is
opened or reopened, and when it gets another file or backing file. What changes below meanwhile does
not show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.graph.driver import driver_of
from model.release.rules import effect
from model.values.state import NO_LIMITS, Limits, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition, Undo
    from model.values.state import Node

LIMITS = effect(
    "query.limits",
    "What is shown of an image has the limits of requests to it.",
    source="11.1 (query-named-block-nodes)",
)

_TAKEN_FROM = Role.DATA | Role.FILTERED | Role.COW
_PAGE = 4096
_VECTOR = 1024


def take_limits(t: Transition, name: str, undo: Undo | None = None) -> None:
    """Work the limits of a node out anew, where anybody can see them."""
    if not t.ev.holds(LIMITS):
        return
    node = t.nodes[name]
    below = [t.nodes[link.child].limits for link in node.children if link.role & _TAKEN_FROM]
    if undo is not None:
        undo.add(lambda: _put(t, name, node.limits))
    _put(t, name, driver_of(node.driver).limit(node, _merged(below)))


def _merged(below: list[Limits]) -> Limits:
    return Limits(
        discard=max((each.discard for each in below), default=0),
        transfer=min((each.transfer for each in below if each.transfer), default=0),
        memory=max((each.memory for each in below), default=NO_LIMITS.memory),
    )


def at_once(t: Transition, name: str) -> int:
    """How many bytes a node takes in one request by what is below it now; 0 if any number."""
    return _derived(t, name).transfer


def _derived(t: Transition, name: str) -> Limits:
    node = t.nodes[name]
    below = [_derived(t, link.child) for link in node.children if link.role & _TAKEN_FROM]
    return driver_of(node.driver).limit(node, _merged(below))


def _put(t: Transition, name: str, limits: Limits) -> None:
    if name in t.nodes:
        t.change(name, limits=limits)


def shown_limits(t: Transition, node: Node) -> dict[str, int]:
    """The limits as a query shows them; what is unlimited does not show."""
    limits = node.limits
    perhaps = {
        "discard-alignment": limits.discard,
        "max-discard": limits.most_discard,
        "max-transfer": limits.transfer,
        "max-write-zeroes": limits.most_zeroes,
        "write-zeroes-alignment": limits.zeroes,
    }
    return {
        "request-alignment": driver_of(node.driver).alignment(t, node),
        "min-mem-alignment": limits.memory,
        "opt-mem-alignment": max(limits.memory, _PAGE),
        "max-iov": _VECTOR,
        **{key: value for key, value in perhaps.items() if value},
    }
