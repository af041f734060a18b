# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters with one child: throttle, copy-on-read, compress, preallocate, blkdebug."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from model.data.length import can_cut, cluster_size, cut
from model.drivers.files import is_known
from model.drivers.filter import Filter
from model.graph.aio_contexts import need_lock
from model.graph.driver import FlatOptions, absorb, default_permissions, sectors
from model.graph.freezing import freeze_chain, unfreeze_chain
from model.graph.traversal import driver_at, primary_child, primary_length
from model.permissions import refresh
from model.permissions.grants import Permissions
from model.release.rules import Refusal, effect, guard, hazard, outside
from model.release.scope import Outside
from model.values.private import Bottom, DebugState, PreallocateState
from model.values.qdict import extract
from model.values.state import Limits, Node, Perm, Role, ThrottleGroup, Use

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.graph.driver import Opener
    from model.graph.transition import Transition

_INT_MAX = (1 << 31) - 1
_RATES = frozenset({"bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"})

NO_GROUP = guard(
    "throttle.group",
    "A throttle node belongs to a throttle group that exists.",
    source="7.2",
    text="Throttle group '{id}' does not exist",
)
BOTTOM_MISSING = guard(
    "copy-on-read.bottom-missing",
    "The bottom node exists.",
    source="7.2",
    text="Bottom node '{node}' not found",
)
BOTTOM_FILTER = guard(
    "copy-on-read.bottom-filter",
    "The bottom node is no filter.",
    source="7.2",
    text="Bottom node '{node}' is a filter",
)
COMPRESSION = guard(
    "compress.unsupported",
    "Compression needs a child that can write compressed data.",
    source="7.2",
    text="Compression is not supported for underlying format: {driver}",
)
PREALLOC_SECTORS = guard(
    "preallocate.sectors",
    "Preallocation goes by whole sectors.",
    source="7.2",
    text="prealloc-align parameter of preallocate filter is not aligned to 512",
)
PREALLOC_ALIGNMENT = guard(
    "preallocate.alignment",
    "Preallocation goes by the child's request alignment.",
    source="7.2",
    text="prealloc-align parameter of preallocate filter is not aligned to underlying node "
    "request alignment ({alignment})",
)
PREALLOC_DROP = guard(
    "preallocate.drop",
    "Space that was preallocated can be given back to the file that the node has now.",
    source="7.2; a reopen may have given the node another file",
    text="Failed to drop preallocation",
)
PREALLOC_LATER = effect(
    "preallocate.later",
    "Where nobody writes through the node any more, it gives back the space that it preallocated, "
    "and the right to be the only one who writes and resizes, when the command is through.",
    source="10.0; before, while permissions are checked, so that what leads there is refused where "
    "the space cannot be given back",
)
PREALLOC_EARLY = effect(
    "preallocate.read-only-early",
    "A node that becomes read-only gives space and rights back before permissions are checked.",
    source="10.0: later would be too late, since the file may become read-only, too",
)
PREALLOC_STUCK = effect(
    "preallocate.stuck",
    "A node whose file could not be resized requires from then on to be the only one who "
    "writes and resizes, whoever uses it.",
    source="10.0; a size that the driver cannot make sense of does no harm",
)
DEBUG_NAME = guard(
    "blkdebug.filename",
    "A blkdebug file name names a configuration, perhaps an empty one, and an image.",
    source="7.2",
    text="blkdebug requires both config file and image path",
    unreachable="only a backing file name in an image gets there",
)
DEBUG_CONFIG = guard(
    "blkdebug.config",
    "A configuration file exists.",
    source="7.2",
    text="Could not read blkdebug config file: No such file or directory",
)
CONFIG = outside(
    "blkdebug.unmodelled-config",
    "A configuration file does not exist.",
    text="the configuration file {config!r} of a blkdebug node is not modelled",
)
INJECTS = outside(
    "blkdebug.injects",
    "No error is injected.",
    text="an error that node '{node}' may inject is not modelled",
)
THROTTLES = outside(
    "throttle.throttles",
    "Nobody waits for a limit.",
    text="the limits of throttle group '{group}' are so low that somebody may wait, which is not "
    "modelled",
)
DEBUG_ALIGNMENT = guard(
    "blkdebug.limits",
    "The limits of a blkdebug node are multiples of its alignment, which is a power of two.",
    source="7.2",
    text="Cannot meet constraints with {key} {value}",
)


RIGHTS_LOST = hazard(
    "hazard.preallocate-rights-lost",
    "A reopen that makes a preallocate node read-only, and takes its users away, is refused.",
    source="10.0 has given the right to write up by then, gives the users back, and ends with an "
    "assertion when one of them writes",
)


CLOSED_LATE = hazard(
    "hazard.preallocate-closed",
    "A preallocate node with space to give back goes along with a node that is deleted and has it "
    "twice: as its file and as its backing file.",
    source="10.0 ends with a segmentation fault; seen on 11.1, too",
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


def thaw(t: Transition, name: str) -> None:
    """Let the chain below a copy-on-read filter be changed again; the filter keeps its bottom."""
    bottom = t.nodes[name].private
    if isinstance(bottom, Bottom) and bottom.frozen:
        unfreeze_chain(t, name, bottom.node)
        t.change(name, private=attrs.evolve(bottom, frozen=False))


class CopyOnRead(Filter):
    """Copies what is read from below into the top image."""

    name = "copy-on-read"
    others = ("file", "bottom")
    variable_length = True
    can_compress = True

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """With ``bottom``, freeze every link from the filter down to it."""
        t, ev = opener.t, opener.t.ev
        bottom = options.get("bottom")
        self.open_child(opener, name, options)
        if bottom is None:
            return
        options.pop("bottom")
        ev.check(BOTTOM_MISSING, bottom in t.nodes, node=bottom)
        ev.check(BOTTOM_FILTER, not driver_at(t, bottom).is_filter, node=bottom)
        freeze_chain(t, name, bottom)
        t.change(name, private=Bottom(bottom))

    def holds(self, node: Node, other: str) -> bool:
        """The bottom node is kept alive."""
        return isinstance(node.private, Bottom) and node.private.node == other

    def held_by(self, node: Node) -> str | None:
        """The bottom node."""
        return node.private.node if isinstance(node.private, Bottom) else None

    def frozen_to(self, node: Node) -> str | None:
        """The bottom node, as long as the chain down to it is frozen."""
        return self.held_by(node) if node.private and node.private.frozen else None

    def closed(self, t: Transition, node: Node) -> None:
        """What was frozen can be changed."""
        thaw(t, node.name)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Even a reader makes it write what does not change."""
        return perm & 11 | 4, shared & 11 | 20


class Compress(Filter):
    """Writes compressed."""

    name = "compress"
    others = ("file",)
    variable_length = True

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Not every child can compress."""
        self.open_child(opener, name, options)
        t = opener.t
        below = primary_child(t, name)
        child = driver_at(t, below)
        t.ev.check(COMPRESSION, child.can_compress, driver=child.name)
        t.change(name, private=cluster_size(t, below) or 1)

    def alignment(self, t: Transition, node: Node) -> int:
        """Whole clusters of the child that it was opened on, whatever has come in its place."""
        alignment: int = node.private or 1
        return alignment


_WRITE_AND_RESIZE = Perm.WRITE | Perm.RESIZE


def _may_write_and_resize(perm: int) -> bool:
    return perm & _WRITE_AND_RESIZE == _WRITE_AND_RESIZE


def _had_twice(t: Transition, name: str) -> bool:
    """Whether one node had this one as two of its children before the command."""
    before = t.before.nodes.get(name)
    had = [use[0] for use in before.parents if not isinstance(use, Use)] if before else []
    return len(had) != len(set(had))


class Preallocate(Filter):
    """Preallocates space behind the end of its file."""

    name = "preallocate"
    can_reopen = True
    minds_permissions = True
    variable_length = True
    others = ("file",)
    kinds = {"prealloc-align": "size", "prealloc-size": "size"}

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """The child first, then the options."""
        t = opener.t
        t.change(name, private=PreallocateState(0, 0))
        self.open_child(opener, name, options)
        t.change(name, private=self._state(t, t.nodes[name], options))

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """Both options may change but not be omitted."""
        return self._state(t, node, options)

    def adopt(self, node: Node, prepared: PreallocateState) -> Any:
        """New options; what is remembered of the file stays."""
        return attrs.evolve(node.private, align=prepared.align, size=prepared.size)

    def _state(self, t: Transition, node: Node, options: FlatOptions) -> PreallocateState:
        own = absorb(t.ev, options, self.kinds)
        align = own.get("prealloc-align", 1 << 20)
        t.ev.check(PREALLOC_SECTORS, align % 512 == 0)
        below = primary_child(t, node.name)
        alignment = driver_at(t, below).alignment(t, t.nodes[below])
        t.ev.check(PREALLOC_ALIGNMENT, align % alignment == 0, alignment=alignment)
        return PreallocateState(align, own.get("prealloc-size", 128 << 20))

    def measure(self, t: Transition, node: Node) -> int:
        """Up to where there is data."""
        end: int | None = node.private.data_end
        return primary_length(t, node) if end is None else sectors(end)

    def grow(self, t: Transition, node: Node, length: int, first: int) -> int:
        """Preallocate when data is written behind the end of the file."""
        self.wrote(t, node)
        state: PreallocateState = t.nodes[node.name].private
        if state.data_end is None or length <= state.data_end:
            return length
        file_end = self._file_end(t, node)
        if length > file_end:
            align = max(state.align, 1)
            reached = first if first > file_end else length
            file_end = max(length, -(-(reached + state.size) // align) * align)
        t.change(node.name, private=attrs.evolve(state, data_end=length, file_end=file_end))
        return file_end

    def wrote(self, t: Transition, node: Node) -> None:
        """It looks where the file ends, and remembers if it may."""
        if node.private.data_end is None and self._has_rights(t, node):
            self._remember(t, node, primary_length(t, node))

    def _has_rights(self, t: Transition, node: Node) -> bool:
        """Whether the node may write and resize its file, though it has forgotten the ends."""
        link = self.primary(node)
        if link is None or not t.ev.holds(PREALLOC_LATER):
            return False
        return _may_write_and_resize(Permissions(t.nodes, {}).grant(link.key)[0])

    def _remember(self, t: Transition, node: Node, end: int) -> Node:
        """Both the data and the file end there."""
        alone = t.ev.holds(PREALLOC_LATER)
        private = attrs.evolve(node.private, data_end=end, file_end=end, alone=alone)
        return t.change(node.name, private=private)

    def _forget(self, t: Transition, node: Node) -> None:
        private = attrs.evolve(node.private, data_end=None, file_end=None, alone=False)
        t.change(node.name, private=private)

    def surplus(self, t: Transition, node: Node, length: int) -> int | None:
        """What is preallocated goes before the data becomes longer."""
        end: int | None = node.private.data_end
        return end if end is not None and end < min(length, self._file_end(t, node)) else None

    def truncated(self, t: Transition, node: Node, length: int) -> None:
        """Remember where the data ends now, if it is remembered at all."""
        if node.private.data_end is not None or self._has_rights(t, node):
            self._remember(t, node, length)

    def not_truncated(self, t: Transition, node: Node, *, invalid: bool) -> None:
        """What was remembered is lost; an error in place of the data's end claims rights."""
        if not t.ev.holds(PREALLOC_STUCK):
            if node.private.data_end is not None:
                self._remember(t, node, primary_length(t, node))
            return
        private = attrs.evolve(node.private, data_end=None, file_end=None, alone=not invalid)
        # What the file's other users may do is only looked at with the next change.
        self._go_by(t, node.name, Permissions(t.nodes, {}))
        t.change(node.name, private=private)

    def _go_by(self, t: Transition, name: str, known: Permissions) -> None:
        """The node goes on requiring and sharing what is ``known`` until it is asked again."""
        children = t.nodes[name].children
        kept = tuple(attrs.evolve(link, kept=known.grant(link.key)) for link in children)
        t.change(name, children=kept)

    def reopened(self, t: Transition, before: Node, after: Node) -> None:
        """It looks where the file ends if it claims rights, which are then to be given back.

        Whoever has users that write remembers by now; those of others may still look like that.
        """
        if after.private.data_end is None and after.private.alone:
            self._remember(t, after, primary_length(t, after))
            t.put_off(after.name)

    def lose(self, t: Transition, node: Node, perm: int) -> None:
        """Give preallocated space back before somebody else may write or resize."""
        if _may_write_and_resize(perm) or t.ev.holds(PREALLOC_LATER):
            return
        self._give_back(t, node)

    def _give_back(self, t: Transition, node: Node) -> None:
        """Cut off what is preallocated. Raises :class:`Refusal`."""
        state: PreallocateState = node.private
        if state.data_end is None:
            return
        file, file_end = primary_child(t, node.name), self._file_end(t, node)
        if state.data_end < file_end:
            need_lock(t, file)
            can = can_cut(t, file)
            known = state.data_end if can else None
            t.change(node.name, private=attrs.evolve(state, file_end=known))
            t.ev.check(PREALLOC_DROP, can)
            cut(t, file, state.data_end)

    def _file_end(self, t: Transition, node: Node) -> int:
        state: PreallocateState = node.private
        return primary_length(t, node) if state.file_end is None else state.file_end

    def settle(self, t: Transition, node: Node, perm: int, *, reopening: bool) -> None:
        """Begin to remember, or forget."""
        state: PreallocateState = node.private
        if _may_write_and_resize(perm):
            if state.data_end is None:
                self._remember(t, node, primary_length(t, node))
                # Where the command is refused, those users are gone again without another word.
                t.put_off(node.name)
        elif t.ev.holds(PREALLOC_LATER):
            if state.data_end is not None:
                t.put_off(node.name)
        else:
            self._forget(t, node)

    def settled_for_good(self, node: Node) -> bool:
        """What it claims stays until it is given back."""
        alone: bool = node.private.alone
        return alone

    def catch_up(self, t: Transition, node: Node) -> None:
        """Give back space and rights if still nobody writes through the node.

        Where that is impossible, it keeps both.
        """
        perm, _ = Permissions(t.nodes, {}).cumulative(node.name)
        if _may_write_and_resize(perm):
            if not self._has_rights(t, node):
                t.ev.meet(RIGHTS_LOST)
            return
        try:
            self._give_up(t, node)
        except Refusal as refusal:
            t.ev.refused.discard(refusal.rule.id)

    def _give_up(self, t: Transition, node: Node) -> None:
        """Give back space and rights. Raises :class:`Refusal`."""
        if node.private.data_end is None:
            return
        before = Permissions(dict(t.nodes), {})
        self._give_back(t, node)
        self._forget(t, t.nodes[node.name])
        refresh.loosen_child(t, node.name, before)

    def stop_writing(self, t: Transition, node: Node) -> None:
        """A node that becomes read-only does not wait until the command is through.

        If the transaction is refused, it goes by what its users required at this moment.
        """
        if node.private.data_end is None or not t.ev.holds(PREALLOC_EARLY):
            return
        self._give_up(t, node)
        known = Permissions(t.nodes, {})
        self._go_by(t, node.name, known)
        t.put_off(node.name)

    def closed(self, t: Transition, node: Node) -> None:
        """What is still preallocated goes with the node, if it can."""
        end = node.private.data_end
        if end is not None and end < self._file_end(t, node) and _had_twice(t, node.name):
            t.ev.meet(CLOSED_LATE)
        try:
            self._give_back(t, node)
        except Refusal as refusal:
            t.ev.refused.discard(refusal.rule.id)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Whoever may write and resize through it does so alone."""
        if _may_write_and_resize(perm) or node.private.alone:
            perm |= _WRITE_AND_RESIZE
            shared &= ~_WRITE_AND_RESIZE
        return perm & 15, shared | 16


_INJECTED_EVENT = re.compile(r"inject-error\.[0-9]+\.event")
_QUIET = frozenset({"read_aio", "write_aio", "read_backing_aio", "cor_write", "cow_read"})
"""The events that come only when a format's data is read or written."""
_PERMS = {"consistent-read": 1, "write": 2, "write-unchanged": 4, "resize": 8, "graph-mod": 16}


_INJECTED = Outside(
    "errors that are injected, and the states that lead to them",
    when="there is an error to inject, and something is read or written through the node, or its "
    "event may come when something is opened or flushed",
)


class Blkdebug(Filter):
    """Injects errors, limits and permissions."""

    name = "blkdebug"
    is_protocol = True
    can_reopen = True
    makes_filename = True
    child_name = "image"
    strong = (
        "config",
        "inject-error.",
        "set-state.",
        "align",
        "max-transfer",
        "opt-write-zero",
        "max-write-zero",
        "opt-discard",
        "max-discard",
    )
    kinds = {
        "config": "string",
        "x-image": "string",
        "align": "size",
        "max-transfer": "size",
        "opt-write-zero": "size",
        "max-write-zero": "size",
        "opt-discard": "size",
        "max-discard": "size",
    }
    others = ("image", "take-child-perms", "unshare-child-perms")
    outside = {
        "inject-error": _INJECTED,
        "inject-error.*": _INJECTED,
        "set-state": _INJECTED,
        "set-state.*": _INJECTED,
    }

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Rules and permissions first, then the child, then the limits."""
        t, ev = opener.t, opener.t.ev
        own = absorb(ev, options, self.kinds)
        if "config" in own:
            if own["config"] in t.images or not is_known(t, own["config"]):
                ev.leave(CONFIG, "blockdev-add/blkdebug.config", config=own["config"])
            ev.refuse(DEBUG_CONFIG, config=own["config"])
        ev.accepted.add(DEBUG_CONFIG.id)
        perms = []
        for prefix in ("inject-error.", "set-state.", "take-child-perms.", "unshare-child-perms."):
            rest, sub = extract(options, prefix)
            if sub:
                options.clear()
                options.update(rest)
            perms.append(sum({_PERMS.get(str(value), 0) for value in sub.values()}))
        # The permissions count from the moment that the child is attached.
        t.change(name, private=DebugState(perms[2], perms[3], 0))
        opener.open_child(name, self.child_name, options, Role.FILTER, "x-image", own)
        self._check_limits(opener, name, own)
        t.change(
            name,
            private=DebugState(perms[2], perms[3], own.get("align", 0)),
            size=primary_length(t, t.nodes[name]),
        )

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """``blkdebug:CONFIG:IMAGE``; any other name is that of the image."""
        if not filename.startswith("blkdebug:"):
            options["x-image"] = filename
            return
        config, colon, image = filename.removeprefix("blkdebug:").partition(":")
        opener.t.ev.check(DEBUG_NAME, colon)
        if config:
            options["config"] = config
        options["x-image"] = image

    def _check_limits(self, opener: Opener, name: str, own: FlatOptions) -> None:
        t, ev = opener.t, opener.t.ev
        align = own.get("align", 0)
        power = align & (align - 1) == 0
        ev.check(DEBUG_ALIGNMENT, align < _INT_MAX and power, key="align", value=align)
        below = primary_child(t, name)
        alignment = max(align, driver_at(t, below).alignment(t, t.nodes[below]))
        for key, least in (
            ("max-transfer", 0),
            ("opt-write-zero", 0),
            ("max-write-zero", own.get("opt-write-zero", 0)),
            ("opt-discard", 0),
            ("max-discard", own.get("opt-discard", 0)),
        ):
            value = own.get(key, 0)
            ok = value < _INT_MAX and value % max(alignment, least) == 0
            ev.check(DEBUG_ALIGNMENT, ok, key=key, value=value)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """As a filter, plus what is taken, minus what is unshared."""
        needed, granted = default_permissions(role, writable, perm, shared)
        state: DebugState = node.private
        return needed | state.take, granted & ~state.unshare

    def follow(self, t: Transition, node: Node, *, opening: bool) -> None:
        """An error may be injected here."""
        events = [value for key, value in node.options.items() if _INJECTED_EVENT.fullmatch(key)]
        if events and not (opening and _QUIET.issuperset(events)):
            t.ev.leave(INJECTS, "blockdev-add/blkdebug.inject-error", node=node.name)

    def flush(self, t: Transition, node: Node) -> None:
        """That may fail, too."""
        self.follow(t, node, opening=True)

    def alignment(self, t: Transition, node: Node) -> int:
        """Its own."""
        state: DebugState = node.private
        return state.align or 1

    def limit(self, node: Node, merged: Limits) -> Limits:
        """Its options, where they say anything."""

        def given(key: str) -> int:
            return int(node.options.get(key, 0))

        return Limits(
            discard=given("opt-discard") or merged.discard,
            transfer=given("max-transfer") or merged.transfer,
            memory=merged.memory,
            zeroes=given("opt-write-zero"),
            most_discard=given("max-discard"),
            most_zeroes=given("max-write-zero"),
        )

    def exact_filename(self, node: Node, full: dict[str, Any], child_names: dict[str, str]) -> str:
        """``blkdebug:CONFIG:IMAGE``, unless a limit or a rule is set."""
        image = next(iter(child_names.values()), "")
        if not image or not set(full) <= {"config", "image", "x-image", "driver"}:
            return ""
        return f"blkdebug:{full.get('config', '')}:{image}"
