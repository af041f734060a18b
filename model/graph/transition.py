# SPDX-License-Identifier: GPL-2.0-or-later
"""A transition: one command at work on a private copy of the graph.

A command reads and changes a :class:`Transition`; only what it makes of it becomes
the next state. Changes of links are undone the way QEMU undoes them, step by step
and newest first, because that leaves traces that a client can see: a link that was
moved and moved back is the newest of its node afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from model.values.state import (
    BlockState,
    Device,
    Export,
    FrozenDict,
    Image,
    Job,
    Link,
    LinkKey,
    Node,
    Object,
    Use,
    User,
    changed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from model.release.rules import Evaluation
    from model.values.state import Grant


T = TypeVar("T")
_TWO = 2

Settled = tuple[str, int | None]
"""The status that a job comes to by itself after the reply, and the progress where it sleeps."""


class Undo:
    """What was done to the graph, to be undone or settled together, newest first."""

    __slots__ = ("_backward", "_forward")

    def __init__(self) -> None:
        self._backward: list[Callable[[], None]] = []
        self._forward: list[Callable[[], None]] = []

    def add(self, backward: Callable[[], None], forward: Callable[[], None] | None = None) -> None:
        """Remember how to take a step back, and what settles it."""
        self._backward.append(backward)
        if forward is not None:
            self._forward.append(forward)

    def abort(self) -> None:
        """Take every step back."""
        while self._backward:
            self._backward.pop()()

    def commit(self) -> None:
        """Settle every step."""
        self._backward.clear()
        while self._forward:
            self._forward.pop()()


class Transition:
    """The graph under one command. ``nodes``, ``objects`` and ``images`` may be changed freely.

    ``locks`` are the iothreads that the command has locked. It ``offloads`` while the host copies
    bytes by itself, so that nobody looks at them. It is ``closing`` where something is to be closed
    as soon as the links are gone that are being taken away. ``settled`` are the nodes as they were
    when permissions were settled last, and ``grants`` what the users of each required and shared
    then, None while nobody has asked. ``later`` are the nodes that put something off, and
    ``pending`` the options of those that are being opened.
    ``spent`` is how much work it has done with bytes (:func:`model.graph.sizes.spend`).
    """

    __slots__ = (
        "before",
        "closing",
        "devices",
        "ev",
        "events",
        "exports",
        "grants",
        "held",
        "images",
        "jobs",
        "keeping",
        "later",
        "locks",
        "nbd_server",
        "nodes",
        "objects",
        "offloads",
        "pending",
        "serial",
        "settled",
        "settling",
        "spent",
        "users",
    )

    def __init__(self, state: BlockState, ev: Evaluation) -> None:
        self.before = state
        self.ev = ev
        self.nodes: dict[str, Node] = dict(state.nodes)
        self.objects: dict[str, Object] = dict(state.objects)
        self.images: dict[str, Image] = dict(state.images)
        self.users: dict[str, User] = dict(state.users)
        self.jobs: dict[str, Job] = dict(state.jobs)
        self.exports: dict[str, Export] = dict(state.exports)
        self.nbd_server = state.nbd_server
        self.devices: dict[str, Device] = dict(state.devices)
        self.serial = state.serial
        self.events: list[dict[str, Any]] = []
        self.settling: dict[str, Settled] = {}
        self.held: dict[str, Grant] = {}
        self.settled: Mapping[str, Node] = state.nodes
        self.grants: dict[tuple[LinkKey | Use, str], Grant] | None = None
        self.keeping: list[str] = []
        self.locks: list[str] = []
        self.closing = False
        self.offloads = False
        self.spent = 0
        self.later: dict[str, None] = {}
        self.pending: dict[str, dict[str, Any]] = {}

    def result(self) -> BlockState:
        """The state as it is now; the very same object if nothing has changed."""
        before = self.before
        now = BlockState(
            before.nodes if _same(before.nodes, self.nodes) else FrozenDict(self.nodes),
            _kept(before.objects, self.objects),
            _kept(before.images, self.images),
            self.serial,
            before.direct_alignment,
            _kept(before.users, self.users),
            _kept(before.jobs, self.jobs),
            _kept(before.exports, self.exports),
            self.nbd_server,
            _kept(before.devices, self.devices),
        )
        # Nodes that are equal are the same by now; comparing them again would be dear.
        return before if now.nodes is before.nodes and now == before else now

    def undo(self) -> Undo:
        """A fresh list of steps to take back."""
        return Undo()

    # Nodes that are being opened: their file is open before they have a name

    def begin_node(self, options: dict[str, Any]) -> str:
        """A stand-in for the name of a node under way, with the options its children inherit."""
        token = f"\0{len(self.pending)}"
        self.pending[token] = options
        return token

    def pending_options(self, parent: str) -> Mapping[str, Any]:
        """The options that children of a node, open or under way, inherit from."""
        pending = self.pending.get(parent)
        return self.nodes[parent].options if pending is None else pending

    def name_node(self, token: str, node: Node) -> None:
        """Put a node under its name into the graph."""
        del self.pending[token]
        for name, other in self.nodes.items():
            if other.inherits_from == token:
                self.change(name, inherits_from=node.name)
        self.nodes[node.name] = node

    # What waits until the command is through

    def put_off(self, node: str) -> None:
        """A node has something to do in the main loop; see :meth:`model.drivers.Driver.catch_up`.

        That it has been put off already changes nothing.
        """
        self.later.setdefault(node)

    # Looking around

    # Nodes

    def change(self, name: str, **changes: Any) -> Node:
        """Replace fields of a node."""
        node = self.nodes[name] = changed(self.nodes[name], changes)
        return node

    # Links

    def detach(self, key: LinkKey) -> Link:
        """Take a link out of its parent's and its child's lists."""
        parent, name = key
        node = self.nodes[parent]
        link = node.link(name)
        if link is None:
            raise LookupError(f"node {parent!r} has no child {name!r}")
        self.change(parent, children=tuple(x for x in node.children if x is not link))
        child = self.nodes[link.child]
        self.change(link.child, parents=tuple(k for k in child.parents if k != key))
        return link

    def attach(self, link: Link) -> None:
        """Put a link at the head of its parent's and its child's lists."""
        self.change(link.parent, children=(link, *self.nodes[link.parent].children))
        self.change(link.child, parents=(link.key, *self.nodes[link.child].parents))

    # Users

    def add_user(self, user: User) -> None:
        """Make a user known that uses nothing yet."""
        self.users[user.key] = user

    def used(self, user: str, name: str) -> tuple[str, Use]:
        """The node that a user's link leads to, and the link."""
        node = dict(self.users[user].links)[name]
        for key in self.nodes[node].parents:
            if isinstance(key, Use) and key[:2] == (user, name):
                return node, key
        raise LookupError(f"{user!r} has no link {name!r}")


def _kept(before: FrozenDict[str, T], now: dict[str, T]) -> FrozenDict[str, T]:
    """The dictionary from before where nothing in it has changed, order included."""
    if before == now and (len(now) < _TWO or list(before) == list(now)):
        return before
    return FrozenDict(now)


def _same(before: FrozenDict[str, Node], now: dict[str, Node]) -> bool:
    return before.keys() == now.keys() and all(
        before[name] is node or (before[name] == node and _order(before[name]) == _order(node))
        for name, node in now.items()
    )


def _order(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In which order its options were put in, which file names show and equality does not."""
    return tuple(node.options), tuple(node.explicit)
