# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter that a mirror puts above its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.drivers.filter import Filter
from model.release.rules import effect, guard, hazard
from model.values.state import Node, Perm

if TYPE_CHECKING:
    from model.graph.driver import FlatOptions, Opener
    from model.graph.transition import Transition
    from model.values.private import MirrorTopState

NOT_FOR_CLIENTS = guard(
    "mirror-top.internal",
    "The filter of a mirror job is no driver that can be asked for.",
    source="7.2",
    text="Unknown driver '{driver}'",
    unreachable="only the backing file name of an image gets there, and none asks for it",
)


OUTLIVED = hazard(
    "hazard.filter-outlives-mirror",
    "Somebody writes to the filter of a mirror that has ended and is not dismissed yet, or resizes "
    "it.",
    source="5.2 ends with a segmentation fault, or an assertion",
)


MIRROR_PASSES_ON = effect(
    "mirror.filter-passes-on",
    "The filter requires and shares what its users do.",
    source="6.0; before, it only writes what they write",
)


class MirrorTop(Filter):
    """Stands above the node that a mirror job or an active commit copies."""

    name = "mirror_top"
    borrows_filename = True
    child_name = "backing"
    hears_of_length = False

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Only jobs make such nodes."""
        opener.t.ev.refuse(NOT_FOR_CLIENTS, driver=self.name)

    def truncated(self, t: Transition, node: Node, length: int) -> None:
        """Nothing, as long as the job is there."""
        if node.private.stopped:
            t.ev.meet(OUTLIVED)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Those of its users; a commit must not stand in its own way when it writes below."""
        state: MirrorTopState = node.private
        if state.stopped:
            return 0, Perm.ALL
        if not state.passes_on:
            return perm & Perm.WRITE, Perm.ALL
        if state.commit:
            return perm & ~Perm.CONSISTENT_READ, shared | Perm.WRITE
        return perm, shared
