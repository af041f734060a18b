# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder of commands sees: the state of the model, and a source of choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from model.graph.filenames import Names
from model.graph.transition import Transition
from model.graph.traversal import length_of
from model.values.state import BlockState, Image, IOThread, Job, Node, Role, ThrottleGroup, Use
from strategies.builders.situation import Situation, describable, generated
from strategies.choices.option_values import OPTIONS
from strategies.choices.weights import FIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from model.release.dialect import Dialect
    from strategies.choices.chooser import Chooser
    from strategies.choices.option_values import Option

T = TypeVar("T")

_ADDS = "blockdev-add.arg"
_DRIVERS = f"{_ADDS}.driver"


class Scene(Situation):
    """A situation, read for one command, with a source of choices."""

    __slots__ = ("_fresh", "_taken", "_transition", "choose", "images")

    def __init__(self, state: BlockState, choose: Chooser, dialect: Dialect) -> None:
        super().__init__(state, dialect)
        self.choose = choose
        self.images: tuple[Image, ...] = tuple(state.images.values())
        self._fresh = 0
        self._taken: list[str] = []
        self._transition: Transition | None = None

    # What the release has

    def has_driver(self, driver: str) -> bool:
        """Whether the release has a driver."""
        return driver in self.dialect.schema.values(_DRIVERS)

    def known(self, driver: str, options: Iterable[Option]) -> list[Option]:
        """Those of ``options`` that a driver takes in this release, which has the driver."""
        members = {member.name for member in self.dialect.schema.members(_ADDS, driver)}
        return [option for option in options if option.name in members]

    def has_option(self, driver: str, option: str) -> bool:
        """Whether the release has a driver that takes an option."""
        if not self.has_driver(driver):
            return False
        members = self.dialect.schema.members(_ADDS, driver)
        return any(member.name == option for member in members)

    def takes(self, type_name: str, member: str) -> bool:
        """Whether an object type of the release, such as "block-commit.arg", has a member."""
        schema = self.dialect.schema
        known = schema.members(type_name) if type_name in schema.types else ()
        return any(each.name == member for each in known)

    # Names

    def fresh_name(self) -> str:
        """The first name n0, n1, ... that no node has and no earlier call has returned."""
        while (name := f"n{self._fresh}") in self.state.nodes:
            self._fresh += 1
        self._fresh += 1
        return name

    def fresh_id(self, prefix: str) -> str:
        """The first ``prefix``0, ``prefix``1, ... that no object, job, node and so on has."""
        state = self.state
        number = 0
        while (name := f"{prefix}{number}") in state.objects or any(
            name in known for known in (state.jobs, state.exports, state.nodes, state.devices)
        ):
            number += 1
        return name

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
        return [node.name for node in self.everything]

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
        return [node for node in self.everything if name not in self.below(node.name)]

    def chain(self, name: str) -> list[Node]:
        """A node and what it filters or overlays, down to the end."""
        found = [self.state.nodes[name]]
        while (link := filtered_or_overlaid(found[-1])) is not None:
            found.append(self.state.nodes[link])
        return found

    def layers(self, name: str) -> list[Node]:
        """The nodes of a chain that are no filters and that commands can refer to."""
        return [node for node in self.chain(name) if self._is_layer(node)]

    def _is_layer(self, node: Node) -> bool:
        return describable(node) and not any(x.role & Role.FILTERED for x in node.children)

    def length(self, name: str) -> int:
        """The length of a node in bytes."""
        if self._transition is None:
            self._transition = Transition(self.state, self.dialect.evaluation())
        return length_of(self._transition, name)

    def filename(self, name: str) -> str:
        """The name of a node's file as queries show it; "" where QEMU makes one up."""
        text = Names(self.state.nodes).text(name)
        return "" if text.startswith("json:") else text

    def shown(self, name: str) -> Node:
        """A node, or what lies below it where it is a filter that a client does not know of."""
        node = self.state.nodes[name]
        while node.driver not in OPTIONS and generated(node.name):
            below = filtered_or_overlaid(node)
            if below is None:
                break
            node = self.state.nodes[below]
        return node

    # Jobs

    def jobs(self) -> tuple[Job, ...]:
        """The jobs, oldest first."""
        return tuple(self.state.jobs.values())

    def held(self, job: Job) -> list[str]:
        """The nodes that a job holds on to and that commands can refer to."""
        user = self.state.users.get(job.user)
        links = user.links if user is not None else ()
        names = [node for _, node in links if not generated(node)]
        return list(dict.fromkeys(names))

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


def on_top(node: Node) -> bool:
    """Whether no other node is above this one; jobs and exports may use it."""
    return all(isinstance(key, Use) for key in node.parents)


def filtered_or_overlaid(node: Node) -> str | None:
    """What a node filters, or its backing file."""
    for link in node.children:
        if link.role & (Role.FILTERED | Role.COW):
            return link.child
    return None
