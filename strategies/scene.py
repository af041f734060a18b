# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder of commands sees: the state of the model, and a source of choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from model.state import BlockState, Image, IOThread, Node, ThrottleGroup
from strategies.mix import FIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from strategies.choosing import Chooser

T = TypeVar("T")


def generated(name: str) -> bool:
    """Whether QEMU made this name up; no command can refer to such a node twice."""
    return name.startswith("#")


class Scene:
    """A state, read for one command.

    Nodes with generated names are left out of ``nodes``: what a real QEMU calls them
    is not what the model calls them.
    """

    __slots__ = ("_fresh", "_taken", "choose", "images", "nodes", "state")

    def __init__(self, state: BlockState, choose: Chooser) -> None:
        self.state = state
        self.choose = choose
        self.nodes: tuple[Node, ...] = tuple(
            node for node in state.nodes.values() if not generated(node.name)
        )
        self.images: tuple[Image, ...] = tuple(state.images.values())
        self._fresh = 0
        self._taken: list[str] = []

    # Names

    def fresh_name(self) -> str:
        """The first name n0, n1, ... that no node has and no earlier call has returned."""
        while (name := f"n{self._fresh}") in self.state.nodes:
            self._fresh += 1
        self._fresh += 1
        return name

    def fresh_id(self, prefix: str) -> str:
        """The first identifier ``prefix``0, ``prefix``1, ... that no object has."""
        number = 0
        while f"{prefix}{number}" in self.state.objects:
            number += 1
        return f"{prefix}{number}"

    # Objects

    def groups(self) -> list[str]:
        """The throttle groups, in the order of their creation."""
        return [x.id for x in self.state.objects.values() if isinstance(x, ThrottleGroup)]

    def iothreads(self) -> list[str]:
        """The iothreads, in the order of their creation."""
        return [x.id for x in self.state.objects.values() if isinstance(x, IOThread)]

    # Nodes

    def names(self) -> list[str]:
        """The names that commands can refer to."""
        return [node.name for node in self.nodes]

    def pick(self, candidates: Sequence[T], fits: Callable[[T], bool]) -> T | None:
        """One of ``candidates``, mostly one that fits; None if there are none."""
        if not candidates:
            return None
        fitting = [each for each in candidates if fits(each)]
        if fitting and (len(fitting) == len(candidates) or self.choose.chance(FIT)):
            return self.choose.one_of(fitting)
        return self.choose.one_of(candidates)

    def below(self, *names: str) -> set[str]:
        """The names and everything below them. For membership only: sets have no order."""
        seen = set(names)
        stack = list(names)
        while stack:
            node = self.state.nodes.get(stack.pop())
            for link in node.children if node else ():
                if link.child not in seen:
                    seen.add(link.child)
                    stack.append(link.child)
        return seen

    def not_above(self, name: str) -> list[Node]:
        """The nodes that could become a child of ``name`` without a cycle."""
        return [node for node in self.nodes if name not in self.below(node.name)]

    def image_of(self, node: Node) -> Image | None:
        """The image whose bytes a node shows unchanged in length and place, or None."""
        seen: Node | None = node
        while seen is not None:
            if seen.driver == "file":
                return self.state.images.get(str(seen.explicit.get("filename", seen.filename)))
            if seen.driver == "qcow2":
                return None
            link = seen.link("file") or seen.link("image")
            seen = self.state.nodes.get(link.child) if link else None
        return None

    def is_open(self, image: Image) -> bool:
        """Whether a file node shows this image, or the command under way will open it."""
        return image.name in self._taken or any(
            node.driver == "file" and node.filename == image.name
            for node in self.state.nodes.values()
        )

    def take_image(self) -> Image:
        """An image to open, mostly one that is not open yet."""
        image = self.pick(self.images, lambda each: not self.is_open(each))
        if image is None:
            raise LookupError("a trace without images")
        return image

    def mark_open(self, image: Image) -> None:
        """Remember that the command under way opens this image."""
        self._taken.append(image.name)


def idle(node: Node) -> bool:
    """Whether nothing uses the node but its owner."""
    return not node.parents
