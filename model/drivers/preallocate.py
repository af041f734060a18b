# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters with one child: throttle, copy-on-read, compress, preallocate, blkdebug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data.length import can_cut, cut
from model.drivers.filter import Filter
from model.graph.aio_contexts import need_lock
from model.graph.driver import FlatOptions, absorb, sectors
from model.graph.traversal import driver_at, primary_child, primary_length
from model.permissions import refresh
from model.permissions.grants import Permissions
from model.release.rules import Refusal, effect, guard, hazard
from model.values.private import PreallocateState
from model.values.state import Node, Perm, Use

if TYPE_CHECKING:
    from model.graph.driver import Opener
    from model.graph.transition import Transition


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
