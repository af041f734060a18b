# SPDX-License-Identifier: GPL-2.0-or-later
"""The filters that mirror and backup jobs put above the node that they copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data.length import cluster_size
from model.drivers.filter import Filter
from model.graph.dirty_bitmaps import add as add_bitmap
from model.graph.dirty_bitmaps import remove
from model.graph.driver import FlatOptions, default_permissions
from model.graph.traversal import length_of, primary_child
from model.release.rules import Evaluation, Refusal, effect, guard, hazard
from model.release.scope import Outside
from model.values.private import CopyBeforeWriteState
from model.values.ranges import whole
from model.values.state import Bitmap, Node, Perm, Role

if TYPE_CHECKING:
    from model.graph.driver import Opener
    from model.graph.transition import Transition

_NO_STATE = "Cannot create block-copy-state: "
_UINT32 = 1 << 32

CBW_BITMAP_NODE = guard(
    "copy-before-write.bitmap-node",
    "The node whose bitmap says what is copied exists.",
    source="7.2",
    text="Node '{node}' not found",
)
CBW_BITMAP = guard(
    "copy-before-write.bitmap",
    "The bitmap that says what is copied exists.",
    source="7.2; no modelled command makes a bitmap with a name",
    text="Dirty bitmap '{bitmap}' not found",
)
CLUSTER_LARGE = guard(
    "copy-before-write.min-cluster-large",
    "The least size of the pieces that are copied fits 63 bits.",
    source="10.0",
    text="min-cluster-size too large: {size} > 9223372036854775807",
)
CLUSTER_POWER = guard(
    "copy-before-write.min-cluster-power",
    "The least size of the pieces that are copied is a power of 2.",
    source="10.0",
    text=_NO_STATE + "min-cluster-size needs to be a power of 2",
)
CLUSTER_WRAPS = hazard(
    "hazard.min-cluster-wraps",
    "Pieces of 4 GiB or more are asked for.",
    source="10.0 and 11.1 count no more than 32 bits of it, and end with an assertion in "
    "bdrv_create_dirty_bitmap",
)
CLUSTER_LEAST = effect(
    "copy-before-write.min-cluster",
    "Pieces may be asked for that are larger than the target's clusters.",
    source="10.0",
)
CBW_NOTES = effect(
    "copy-before-write.notes-on-filter",
    "The filter itself has the bitmap of what is still to be copied.",
    source="10.0; before, the node that it filters",
)
CBW_READS = effect(
    "copy-before-write.always-reads",
    "The filter reads what it filters whether or not anybody may write to it.",
    source="10.0; before, only where somebody may",
)

_DEFAULT_CLUSTER = 65536


class CopyBeforeWrite(Filter):
    """Copies what is about to be overwritten to another node."""

    name = "copy-before-write"
    others = ("file", "target", "bitmap", "bitmap.*", "min-cluster-size")
    outside = {
        "on-cbw-error": Outside("a copy that fails", unless=("break-guest-write",)),
        "cbw-timeout": Outside("a copy that takes too long", unless=(0,)),
    }
    borrows_filename = True
    minds_being_used = True
    hears_of_length = False

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """The node below, then the target of the copies."""
        t, ev = opener.t, opener.t.ev
        self.open_child(opener, name, options)
        opener.open_child(name, "target", options, Role.DATA)
        bitmap = {key: options.pop(key) for key in ("bitmap.node", "bitmap.name") if key in options}
        if bitmap:
            node = bitmap["bitmap.node"]
            ev.check(CBW_BITMAP_NODE, node in t.nodes, node=node)
            ev.refuse(CBW_BITMAP, bitmap=bitmap["bitmap.name"])
        ev.accepted.add(CBW_BITMAP.id)
        options.pop("on-cbw-error", None)
        options.pop("cbw-timeout", None)
        least = int(options.pop("min-cluster-size", 0))
        try:
            check_least(ev, least)
        except Refusal as refusal:
            raise refusal.prefixed(_NO_STATE) from None
        self.set_up(t, name, least)

    def set_up(self, t: Transition, name: str, least: int = 0) -> None:
        """Begin to take note of what was copied, once the children are there.

        It is copied in pieces of ``least`` bytes or more.
        """
        ev = t.ev
        ev.check(CLUSTER_POWER, not least & (least - 1))
        if least >= _UINT32:
            ev.meet(CLUSTER_WRAPS)
        cluster = cluster_of(t, name)
        if least > cluster and ev.holds(CLUSTER_LEAST):
            cluster = least
        source = primary_child(t, name)
        length = length_of(t, source)
        everything = whole(length, cluster)
        noted = name if ev.holds(CBW_NOTES) else source
        add_bitmap(t, noted, Bitmap(name, cluster, recording=False, dirty=everything))
        # What was copied so far, and what may be read of the copy.
        add_bitmap(t, name, Bitmap(f"{name}#done", cluster, recording=False))
        add_bitmap(t, name, Bitmap(f"{name}#access", cluster, recording=False, dirty=everything))
        t.change(
            name, size=length, private=CopyBeforeWriteState(cluster, noted, ev.holds(CBW_READS))
        )

    def closed(self, t: Transition, node: Node) -> None:
        """Take no more notes."""
        if isinstance(node.private, CopyBeforeWriteState) and node.private.noted in t.nodes:
            remove(t, node.private.noted, node.name)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """The target is written; nobody else may write the source unseen."""
        if role & Role.FILTERED and not node.parents:
            return default_permissions(role, writable, perm, shared)
        reads = bool(node.private and node.private.reads)
        return working_permissions(role, writable, perm, shared, reads=reads)


def working_permissions(
    role: int, writable: bool, perm: int, shared: int, *, reads: bool
) -> tuple[int, int]:
    """What such a filter asks for while somebody uses it; ``reads``: even if he only reads."""
    if not role & Role.FILTERED:
        return Perm.WRITE, Perm.ALL & ~Perm.RESIZE
    needed, granted = default_permissions(role, writable, perm, shared)
    if perm & Perm.WRITE or reads:
        needed |= Perm.CONSISTENT_READ
    return needed, granted & ~(Perm.WRITE | Perm.RESIZE)


def check_least(ev: Evaluation, least: int) -> None:
    """Whether a least size of pieces can be one."""
    ev.check(CLUSTER_LARGE, least < 1 << 63, size=least)


def cluster_of(t: Transition, name: str) -> int:
    """The size in bytes of the pieces that a filter copies, which its target decides."""
    target = t.nodes[name].link("target")
    if target is None:
        raise LookupError(f"filter {name!r} has no target")
    return max(cluster_size(t, target.child) or 0, _DEFAULT_CLUSTER)
