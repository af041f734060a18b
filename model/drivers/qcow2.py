# SPDX-License-Identifier: GPL-2.0-or-later
"""Format drivers: qcow2 and raw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from model.data.image_access import (
    UNKNOWN_BYTES,
    check_alone,
    content,
    read_header,
    readable,
    shows_all,
    verified,
)
from model.data.length import grown
from model.graph.aio_contexts import MAIN, need_lock
from model.graph.driver import (
    Driver,
    FlatOptions,
    absorb,
)
from model.graph.sizes import check_memory
from model.graph.traversal import filename_of, length_of, primary_child
from model.release.rules import Evaluation, Refusal, effect, guard, hazard
from model.values.image_layout import CLUSTER, tables_end
from model.values.private import Qcow2State
from model.values.state import Limits, Node, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.driver import Opener
    from model.graph.transition import Transition
    from model.values.state import Image


_BACKING_NAME_AT = 528
"""Where qemu-img puts the name of the backing file, in bytes from the beginning."""
_MAX_SETTING = 32 << 20
_MIN_L2_ENTRIES = 2
_MIN_REFCOUNT_CLUSTERS = 4
_INT_MAX = (1 << 31) - 1
_UINT_MAX = (1 << 32) - 1

MISMATCH = guard(
    "blkverify.mismatch",
    "What is read through a blkverify node is the same in both images.",
    source="7.2: QEMU ends itself otherwise, as blkverify is meant to",
    text="",
    ends=True,
)
UNREADABLE = guard(
    "qcow2.unreadable",
    "The header of a qcow2 image can be read.",
    source="7.2: see file.forgets-access",
    text="Could not read qcow2 header: Invalid argument",
)
NOT_QCOW2 = guard(
    "qcow2.format",
    "A qcow2 node is opened on a qcow2 image.",
    source="7.2",
    text="Image is not in qcow2 format",
)
REFUSED_IN_IOTHREAD = hazard(
    "hazard.refused-in-iothread",
    "A qcow2 node that is added over a file in an iothread is refused for its options.",
    source="11.1 closes it in that iothread, and ends with an assertion in bdrv_drain_all_end",
)
CACHE_ALL = guard(
    "qcow2.cache-all-set",
    "Of the total, the L2 and the refcount cache size, at most two are given.",
    source="7.2",
    text="cache-size, l2-cache-size and refcount-cache-size may not be set at the same time",
)
CACHE_L2 = guard(
    "qcow2.cache-l2",
    "The L2 cache is not larger than the total.",
    source="7.2",
    text="l2-cache-size may not exceed cache-size",
)
CACHE_REFCOUNT = guard(
    "qcow2.cache-refcount",
    "The refcount cache is not larger than the total.",
    source="7.2",
    text="refcount-cache-size may not exceed cache-size",
)
CACHE_ENTRY = guard(
    "qcow2.cache-entry",
    "An L2 cache entry is a power of two between 512 and the cluster size.",
    source="7.2",
    text="L2 cache entry size must be a power of two between 512 and the cluster size (65536)",
)
L2_TOO_BIG = guard(
    "qcow2.l2-cache-too-big",
    "The L2 cache has at most INT_MAX entries.",
    source="7.2",
    text="L2 cache size too big",
)
REFCOUNT_TOO_BIG = guard(
    "qcow2.refcount-cache-too-big",
    "The refcount cache has at most INT_MAX entries.",
    source="7.2",
    text="Refcount cache size too big",
)
CLEAN_INTERVAL = guard(
    "qcow2.clean-interval",
    "The cache clean interval fits 32 bits.",
    source="7.2",
    text="Cache clean interval too big",
)
OVERLAP = guard(
    "qcow2.overlap-conflict",
    "The overlap check and its template do not contradict each other.",
    source="7.2",
    text="Conflicting values for qcow2 options 'overlap-check' ('{value}') and "
    "'overlap-check.template' ('{template}')",
    unreachable="the schema takes one or the other, and a new one replaces the old one",
)
NOT_ENCRYPTED = guard(
    "qcow2.not-encrypted",
    "Encryption options are for encrypted images.",
    source="7.2",
    text="No encryption in image header, but options specified format '{format}'",
)
DATA_FILE = guard(
    "qcow2.data-file",
    "A data file is for images that have one.",
    source="7.2",
    text="'data-file' can only be set for images with an external data file",
)
CLEAN = guard(
    "qcow2.clean",
    "A node that is to be read-only, and knows its image to be dirty, marks it clean.",
    source="7.2, also where it is read-only already, and the image was dirty when it was opened",
    text="failed while preparing to reopen image '{image}'",
)
CLEAN_LAZY = guard(
    "qcow2.clean-lazy",
    "With lazy refcounts turned off, a node that knows its image to be dirty marks it clean.",
    source="7.2, also where it is read-only",
    text="Failed to disable lazy refcounts: Operation not permitted",
)
CLEAN_READ_ONLY = hazard(
    "hazard.clean-read-only",
    "A read-only qcow2 node, whose image was dirty when opened, is reopened and does not become "
    "writable, or without lazy refcounts; its file node is writable.",
    source="7.2: it marks the image as clean, and asserts that it may write",
)
CLEANS_AGAIN = effect(
    "qcow2.cleans-again",
    "A node that is read-only, and is to stay so, is to mark its image clean, too.",
    source="7.2; 11.1 leaves it alone",
)

_FLAGS = (
    "main-header",
    "active-l1",
    "active-l2",
    "refcount-table",
    "refcount-block",
    "snapshot-table",
    "inactive-l1",
    "inactive-l2",
    "bitmap-directory",
)


class Qcow2Settings(NamedTuple):
    """Of the options, what matters to what is written: see :class:`Qcow2State`."""

    l2_entry: int
    lazy: bool
    keeps: bool


class Qcow2(Driver):
    """QEMU's own format, with backing files."""

    name = "qcow2"
    is_format = True
    supports_backing = True
    can_reopen = True
    can_compress = True
    strong = ("encrypt.key-secret",)
    kinds = {
        "lazy-refcounts": "bool",
        "pass-discard-request": "bool",
        "pass-discard-snapshot": "bool",
        "pass-discard-other": "bool",
        "overlap-check": "string",
        "overlap-check.template": "string",
        **{f"overlap-check.{flag}": "bool" for flag in _FLAGS},
        "cache-size": "size",
        "l2-cache-size": "size",
        "l2-cache-entry-size": "size",
        "refcount-cache-size": "size",
        "cache-clean-interval": "number",
        "discard-no-unref": "bool",
    }
    mutable = frozenset(kinds)
    others = (
        "file",
        "backing",
        "data-file",
        "encrypt",
        "encrypt.format",
        "encrypt/aes.*",
        "encrypt/luks.*",
    )
    inert = {
        "pass-discard-request": "what the file gets to hear of discards does not show above",
        "pass-discard-snapshot": "there are no snapshots within the images",
        "pass-discard-other": "what the file gets to hear of discards does not show above",
        **dict.fromkeys(
            ("overlap-check", "overlap-check.template", *(f"overlap-check.{f}" for f in _FLAGS)),
            "it has QEMU look for mistakes of its own in what it writes",
        ),
    }

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Open the file, read the header, check the options, open a data file."""
        t, ev = opener.t, opener.t.ev
        opener.open_child(name, "file", options, Role.IMAGE)
        file = primary_child(t, name)
        need_lock(t, file)
        read_header(t, file)
        ev.check(UNREADABLE, readable(t, file))
        ev.check(MISMATCH, verified(t, file))
        image = content(t, file)
        if image is None or image.format != "qcow2":
            ev.refuse(NOT_QCOW2)
            return
        ev.accepted.add(NOT_QCOW2.id)
        t.change(name, size=image.size)
        try:
            self._open_image(opener, name, options, image)
        except Refusal:
            if t.nodes[file].context != MAIN:
                ev.meet(REFUSED_IN_IOTHREAD)
            raise

    def _open_image(self, opener: Opener, name: str, options: FlatOptions, image: Image) -> None:
        """All that comes after the header."""
        t, ev = opener.t, opener.t.ev
        file = primary_child(t, name)
        settings = self._check(t, t.nodes[name], options)
        writable = not t.nodes[name].read_only
        if image.dirty and writable:
            check_alone(t, t.nodes[name], image)
            image = t.images[image.name] = attrs.evolve(image, dirty=False)
        t.change(
            name,
            private=Qcow2State(
                image.name if shows_all(t, file, image) else "",
                image.l1_entries,
                image.l2_tables,
                settings.l2_entry,
                lazy=settings.lazy,
                keeps=settings.keeps,
                dirty=image.dirty,
            ),
        )
        if opener.open_child(name, "data-file", options, Role.DATA, optional=True):
            ev.refuse(DATA_FILE)
        ev.accepted.add(DATA_FILE.id)
        backing = image.backing or ""
        if length_of(t, file) < _BACKING_NAME_AT + len(backing.encode()):
            # The window on the file ends before the name, and what lies behind reads as zeroes.
            backing = ""
        t.change(
            name,
            backing_file=backing,
            auto_backing_file=backing,
            backing_format=image.backing_format or "",
        )

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """All run-time options may change; what is omitted takes its default."""
        return self._check(t, node, options)

    def flush(self, t: Transition, node: Node) -> None:
        """Tables that are still in a cache go to the file, wherever that is by now."""
        state: Qcow2State = node.private
        if not state.cached:
            return
        file = primary_child(t, node.name)
        image = content(t, file)
        if image is None or image.format != "qcow2":
            t.ev.meet(UNKNOWN_BYTES)
        elif tables_end(image) > image.length:
            # So far they were zeroes, which are not in a file that unmaps them.
            grown(t, file, tables_end(image), zeroes=False)
        t.change(node.name, private=attrs.evolve(state, cached=False))

    def adopt(self, node: Node, prepared: Qcow2Settings) -> Any:
        """Perhaps other settings; what is known of the image stays."""
        state: Qcow2State = node.private
        if (state.l2_entry, state.lazy, state.keeps) == prepared:
            return state
        return attrs.evolve(state, **prepared._asdict())

    def reopened(self, t: Transition, before: Node, after: Node) -> None:
        """Caches are looked through where the node lives now."""
        state: Qcow2State = after.private
        sweeping = bool(after.context and int(after.options.get("cache-clean-interval", 1)))
        if sweeping != state.sweeping:
            t.change(after.name, private=attrs.evolve(state, sweeping=sweeping))

    def moved(self, node: Node) -> Any:
        """Sweeping begins anew, and nobody has to wait for its end."""
        state: Qcow2State | None = node.private
        return attrs.evolve(state, sweeping=False) if state and state.sweeping else state

    def sweeps(self, node: Node) -> bool:
        """Whether it looks through its caches in an iothread."""
        return bool(node.context and node.private and node.private.sweeping)

    def stop_writing(self, t: Transition, node: Node) -> None:
        """The refcounts are written down."""
        if node.read_only and not t.ev.holds(CLEANS_AGAIN):
            return
        if not self._clean(t, node):
            t.ev.refuse(CLEAN, image=filename_of(t, node.name))
        t.ev.accepted.add(CLEAN.id)

    def _clean(self, t: Transition, node: Node) -> bool:
        """Mark the image clean, as far as the node knows of it; returns whether it could."""
        if not node.private.dirty:
            return True
        t.change(node.name, private=attrs.evolve(node.private, dirty=False))
        file = primary_child(t, node.name)
        if node.read_only:
            if not t.nodes[file].read_only:
                t.ev.meet(CLEAN_READ_ONLY)
            return False
        image = content(t, file)
        if image is not None:
            t.images[image.name] = attrs.evolve(image, dirty=False)
        return True

    def closed(self, t: Transition, node: Node) -> None:
        """A node that could write leaves a clean image behind."""
        if not node.read_only and isinstance(node.private, Qcow2State):
            self.flush(t, node)
            self._clean(t, t.nodes[node.name])

    def _check(self, t: Transition, node: Node, options: FlatOptions) -> Qcow2Settings:
        """Check the options and take them out."""
        ev = t.ev
        encryption = {key: options.pop(key) for key in list(options) if key.startswith("encrypt.")}
        own = absorb(ev, options, self.kinds)
        entry = self._check_caches(ev, node, own)
        interval = own.get("cache-clean-interval", 600)
        ev.check(CLEAN_INTERVAL, 0 <= interval <= _UINT_MAX)
        lazy = own.get("lazy-refcounts", False)
        if isinstance(node.private, Qcow2State) and node.private.lazy and not lazy:
            ev.check(CLEAN_LAZY, self._clean(t, node))
        template, value = own.get("overlap-check.template"), own.get("overlap-check")
        ev.check(
            OVERLAP,
            template is None or value is None or template == value,
            value=value,
            template=template,
        )
        encrypts = encryption.get("encrypt.format")
        ev.check(NOT_ENCRYPTED, encrypts is None, format=encrypts)
        return Qcow2Settings(entry, lazy, own.get("discard-no-unref", False))

    def _check_caches(self, ev: Evaluation, node: Node, own: FlatOptions) -> int:
        total = own.get("cache-size")
        l2_setting = own.get("l2-cache-size", _MAX_SETTING)
        refcount = own.get("refcount-cache-size", 0)
        max_l2 = -(-(-(-node.size // CLUSTER) * 8) // CLUSTER) * CLUSTER
        l2 = min(max_l2, l2_setting)
        if total is not None:
            has_l2, has_refcount = "l2-cache-size" in own, "refcount-cache-size" in own
            ev.check(CACHE_ALL, not (has_l2 and has_refcount))
            ev.check(CACHE_L2, not has_l2 or l2_setting <= total)
            ev.check(CACHE_REFCOUNT, refcount <= total)
            if has_l2:
                refcount = total - l2
            elif has_refcount:
                l2 = total - refcount
            elif total >= max_l2 + _MIN_REFCOUNT_CLUSTERS * CLUSTER:
                l2, refcount = max_l2, total - max_l2
            else:
                refcount = min(total, _MIN_REFCOUNT_CLUSTERS * CLUSTER)
                l2 = total - refcount
        entry = own.get("l2-cache-entry-size")
        if entry is None:
            entry = CLUSTER if l2 >= max_l2 else 4096
        ev.check(CACHE_ENTRY, 512 <= entry <= CLUSTER and entry & (entry - 1) == 0)  # noqa: PLR2004
        ev.check(L2_TOO_BIG, max(l2 // entry, _MIN_L2_ENTRIES) <= _INT_MAX)
        ev.check(REFCOUNT_TOO_BIG, refcount // CLUSTER <= _INT_MAX)
        check_memory(ev, "a cache", l2 + refcount)
        return int(entry)

    def can_resize(self, node: Node) -> bool:
        """An image can."""
        return True

    def cluster_size(self, node: Node) -> int:
        """That of the images that we make."""
        return CLUSTER

    def limit(self, node: Node, merged: Limits) -> Limits:
        """Whole clusters are discarded and zeroed."""
        return merged._replace(discard=CLUSTER, zeroes=CLUSTER)

    def is_dirty(self, node: Node) -> bool:
        """Whether refcounts are not written down yet."""
        state: Qcow2State = node.private
        return state.dirty

    def join(self, options: FlatOptions, old: Mapping[str, Any]) -> None:
        """A new template or total replaces the finer settings that were there before."""
        kept = dict(old)
        if "overlap-check" in options or "overlap-check.template" in options:
            for key in ("overlap-check", "overlap-check.template"):
                kept.pop(key, None)
            for flag in _FLAGS[:-1]:
                kept.pop(f"overlap-check.{flag}", None)
        new_total = "cache-size" in options
        if new_total:
            kept.pop("l2-cache-size", None)
            kept.pop("refcount-cache-size", None)
        super().join(options, kept)
        if not new_total:
            # Any cache size that is set at all overwrites an old total: QEMU asks for
            # "one of them" where "all of them" is meant.
            options.pop("cache-size", None)
