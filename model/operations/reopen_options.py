# SPDX-License-Identifier: GPL-2.0-or-later
"""What a reopen may do to the options of a node: leave them out, or give them another value.

These are the rules that hold for any node, before and after its driver has its say. A reopen
(:mod:`model.operations.reopen`) asks them for nodes that are open, and
:mod:`model.drivers.declared` for a driver that is only declared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from model.graph.driver import FlatOptions, as_string
from model.operations.node_options import DETECT_ZEROES, check_active
from model.release.rules import Evaluation, effect, guard
from model.values.qdict import in_order

if TYPE_CHECKING:
    from model.values.state import Node

RESET = guard(
    "reopen.reset",
    "An option that is set and cannot change at run time must not be omitted.",
    source="patch 10/13 (bdrv_reset_options_allowed), by what 9/13 has each driver say of its "
    "options",
    text="Option '{key}' cannot be reset to its default value",
)
UNCHANGED = guard(
    "reopen.unchanged",
    "What neither the block layer nor the driver can change must be given as it was.",
    source="before the series; 9/13 says which options may change",
    text="Cannot change the option '{key}'",
)
UNSUPPORTED = guard(
    "reopen.unsupported",
    "Not every driver can be reopened.",
    source="before the series",
    text="Block format '{driver}' used by node '{node}' does not support reopening files",
)
ACTIVE_TAKEN = effect(
    "reopen.active-taken",
    "The option active is taken out before it is looked for: it counts as left out, so that a node "
    "that was given it once cannot be reopened any more.",
    source="10.0",
)
ABSORBED_STRING = effect(
    "reopen.absorbed-string",
    "Generic options that stay become strings on their way and then differ from what was given.",
    source="7.2: an unchanged force-share: true is refused",
)

COMMON = frozenset(
    {
        "node-name",
        "discard",
        "cache.direct",
        "cache.no-flush",
        "read-only",
        "auto-read-only",
        "detect-zeroes",
    }
)
"""Options that every node has, so that a reopen may leave them out."""

_FLAGS = ("cache.direct", "cache.no-flush", "read-only", "auto-read-only")
_STAYING = ("node-name", "driver", "force-share")


class Reopenable(Protocol):
    """What the rules ask of a driver, of one with nodes or of a declared one."""

    @property
    def name(self) -> str:
        """The driver's name."""

    @property
    def can_reopen(self) -> bool:
        """Whether its nodes can be reopened at all."""

    @property
    def mutable(self) -> frozenset[str]:
        """The options that a reopen may omit although they are set."""


class Generic(NamedTuple):
    """The generic options of a reopen that a driver never sees."""

    discard: str | None
    detect_zeroes: str


def take_generic(ev: Evaluation, rest: FlatOptions, *, unmap: bool) -> Generic:
    """Take the generic options out of ``rest``; ``unmap`` is what holds if discard is omitted."""
    for key in _FLAGS:
        rest.pop(key, None)
    if "active" in rest and ev.holds(ACTIVE_TAKEN):
        check_active(ev, rest)
    taken = Generic(rest.pop("discard", None), str(rest.pop("detect-zeroes", "off")))
    unmaps = unmap if taken.discard is None else discards(taken.discard)
    ev.check(DETECT_ZEROES, taken.detect_zeroes != "unmap" or unmaps)
    if "force-share" not in rest or ev.holds(ABSORBED_STRING):
        for key in _STAYING:
            if key in rest:
                rest[key] = as_string(rest.pop(key))
    return taken


def discards(value: str) -> bool:
    """Whether a discard option lets discards through."""
    return value in ("unmap", "on")


def check_omitted(ev: Evaluation, node: Node, driver: Reopenable, rest: FlatOptions) -> None:
    """Refuse what cannot be reopened, or would lose an option that has to stay."""
    ev.check(UNSUPPORTED, driver.can_reopen, driver=driver.name, node=node.name)
    mutable = driver.mutable
    lost = [k for k in node.options if k not in rest and k not in COMMON and k not in mutable]
    if lost:
        ev.refuse(RESET, key=min(lost, key=in_order(node.options).index))
    ev.accepted.add(RESET.id)


def check_unchanged(ev: Evaluation, node: Node, rest: FlatOptions) -> None:
    """Refuse what nobody has taken out of ``rest``, unless it is as it was."""
    wrong = [key for key, value in rest.items() if not _unchanged(node, key, value)]
    if wrong:
        ev.refuse(UNCHANGED, key=min(wrong, key=in_order(rest).index))
    ev.accepted.add(UNCHANGED.id)


def _unchanged(node: Node, key: str, value: Any) -> bool:
    """Whether a node has an option, or a child by that name, as it is given."""
    old = node.options.get(key)
    if type(old) is type(value) and old == value:
        return True
    link = node.link(key) if isinstance(value, str) else None
    return link is not None and link.child == value
