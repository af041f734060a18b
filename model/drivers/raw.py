# SPDX-License-Identifier: GPL-2.0-or-later
"""The raw format: a window on the file below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.graph.driver import (
    ALWAYS_LOOKS,
    Driver,
    FlatOptions,
    Opener,
    absorb,
    default_permissions,
    sectors,
)
from model.graph.traversal import primary_length
from model.release.rules import effect, guard
from model.values.private import RawState
from model.values.state import Node, Role

if TYPE_CHECKING:
    from model.graph.transition import Transition

NAMES_WINDOW = effect(
    "raw.names-window",
    "A window that does not fit the file is told as it was asked for.",
    source="6.0; before, as if nothing but zeroes had been asked for",
)


GIVES_BACK = effect(
    "raw.gives-back",
    "A raw node wants to write and resize its file only where one of its users wants to.",
    source="6.0",
)


RAW_OFFSET = guard(
    "raw.offset",
    "A raw image does not begin behind the end of its file.",
    source="7.2",
    text="Offset ({offset}) cannot be greater than size of the containing file ({real})",
)


RAW_SIZE = guard(
    "raw.size",
    "A raw image ends within its file.",
    source="7.2",
    text="The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the "
    " actual size of the containing file ({real})",
)


RAW_ALIGNED = guard(
    "raw.size-aligned",
    "The size of a raw image is a multiple of 512.",
    source="7.2",
    text="Specified size is not multiple of 512",
)


class Raw(Driver):
    """A file's bytes as they are, or a window of them."""

    name = "raw"
    is_format = True
    can_reopen = True
    variable_length = True
    strong = ("offset", "size")
    asks_below = True
    others = ("file",)
    kinds = {"offset": "size", "size": "size"}
    mutable = frozenset(kinds)

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """Without a window the node is much like a filter."""
        t = opener.t
        own = absorb(t.ev, options, self.kinds)
        t.change(name, private=RawState(gives_back=t.ev.holds(GIVES_BACK)))
        window = own.get("offset", 0) or "size" in own
        role = Role.DATA | Role.PRIMARY if window else Role.FILTER
        opener.open_child(name, "file", options, role)
        node = t.change(name, private=self._window(t, t.nodes[name], own))
        t.change(name, size=self.measure(t, node))

    def prepare(self, t: Transition, node: Node, options: FlatOptions) -> Any:
        """The window may change, within the file that the node has now."""
        return self._window(t, node, absorb(t.ev, options, self.kinds))

    def _window(self, t: Transition, node: Node, own: FlatOptions) -> RawState:
        ev = t.ev
        real = primary_length(t, node)
        offset, size = own.get("offset", 0), own.get("size")
        told = (offset, size) if ev.holds(NAMES_WINDOW) else (0, 0)
        ev.check(RAW_OFFSET, offset <= real, offset=told[0], real=real)
        if size is not None:
            fits = real - offset >= size
            ev.check(RAW_SIZE, fits, offset=told[0], size=told[1], real=real)
            ev.check(RAW_ALIGNED, size % 512 == 0)
        return RawState(offset, size, gives_back=t.ev.holds(GIVES_BACK))

    def can_resize(self, node: Node) -> bool:
        """Unless the window has a size of its own."""
        state: RawState = node.private
        return state.size is None

    def passes_through(self, node: Node) -> bool:
        """From the beginning, if the window begins there."""
        state: RawState = node.private
        return state.offset == 0 and state.size != 0

    def shortened(self, t: Transition, node: Node) -> Any:
        """A window that is longer than the rest of the file is cut for good."""
        state: RawState = node.private
        if state.size is None:
            return state
        rest = max(0, primary_length(t, node) - state.offset)
        return state if state.size <= rest else attrs.evolve(state, size=rest)

    def length(self, t: Transition, node: Node) -> int:
        """That of the file: now, or as it was when the driver last looked."""
        return self.measure(t, node) if t.ev.holds(ALWAYS_LOOKS) else node.size

    def measure(self, t: Transition, node: Node) -> int:
        """What of the window lies within the file, in whole sectors."""
        state: RawState = node.private
        real = primary_length(t, node)
        rest = max(0, real - state.offset)
        length = rest if state.size is None else min(state.size, rest)
        return sectors(length)

    def child_permissions(
        self,
        node: Node,
        role: int,
        writable: bool,
        perm: int,
        shared: int,
    ) -> tuple[int, int]:
        """Writes and resizes of the file are wanted only where a user of the node wants them."""
        needed, granted = default_permissions(role, writable, perm, shared)
        state: RawState = node.private
        return (needed & 5 | perm & 10 if state.gives_back else needed), granted
