# SPDX-License-Identifier: GPL-2.0-or-later
"""A transition: one command at work on a private copy of the graph.

A command reads and changes a :class:`Transition`; only what it makes of it becomes
the next state. Changes of links are undone the way QEMU undoes them, step by step
and newest first, because that leaves traces that a client can see: a link that was
moved and moved back is the newest of its node afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from model import bitmaps, contexts
from model.descending import FROM_EACH, Descent
from model.drivers import Driver, driver_of
from model.naming import Names
from model.permissions import (
    Grant,
    Permissions,
    reaches,
    topological,
)
from model.refreshing import loosen, refresh
from model.rules import Evaluation, Refusal, effect, guard, hazard
from model.sizes import check_count
from model.state import (
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

CYCLE = guard(
    "graph.cycle",
    "No node may become a child of itself, directly or through others.",
    source="patch 8/13 (changing the backing file); 7.2 words it for any child",
    text="Making '{child}' a {name} child of '{parent}' would create a cycle",
)
NOT_FROZEN = hazard(
    "hazard.not-frozen",
    "A mirror ends whose target has come to be a backing file of its source meanwhile.",
    source="5.2 takes the links between for frozen ones, and ends with an assertion",
)
CYCLE_UNNOTICED = hazard(
    "hazard.cycle-unnoticed",
    "A node is to become a child of itself, not by a reopen.",
    source="5.2 looks for cycles in a reopen only; it ends with an assertion or a full stack",
)
ENDLESS_CHAIN = hazard(
    "hazard.off-chain",
    "A chain is to be frozen down to a node that it does not contain.",
    source="7.2 looks for the end of the chain for ever",
)
FROZEN_LOST = hazard(
    "hazard.frozen-lost",
    "The filter of a commit job loses its last user, because a client takes away the overlay above "
    "or gives it another backing file.",
    source="7.2: the job does not hold on to its filter; QEMU ends with an assertion when the "
    "filter's frozen link goes",
)
OFF_CHAIN = guard(
    "freeze.off-chain",
    "A chain is frozen down to a node that it contains.",
    source="our own: see hazard.off-chain",
    text="Node '{base}' is not in the backing chain of '{top}'",
    unreachable="the daemon hangs there: see hazard.off-chain",
)
FROZEN_REPLACE = guard(
    "graph.frozen-replace",
    "A node cannot be replaced under a parent whose link to it is frozen.",
    source="patch 1/13 (freezing links)",
    text="Cannot change '{name}' link to '{node}'",
)
FREEZE_FROZEN = guard(
    "freeze.frozen",
    "A link that is frozen cannot be frozen again: it is a flag and no counter.",
    source="patch 1/13 (freezing links); 6.0 for copy-on-read's bottom",
    text="Cannot change '{name}' link from '{parent}' to '{child}'",
)
NEVER_FROZEN = guard(
    "freeze.never",
    "A link to the filter of a job cannot be frozen: the job must be able to take it away.",
    source="5.2",
    text="Cannot freeze '{name}' link to '{child}'",
)
FREEZES = effect(
    "freeze.freezes",
    "The links of a chain that somebody relies on stay as they are.",
    source="patch 1/13 (freezing links)",
)
THAWS = effect(
    "freeze.thaws",
    "Links can be changed again when nobody relies on them any more.",
    source="patch 1/13 (freezing links)",
)
STAYS = guard(
    "graph.stays",
    "A link of a job stays at its node; where every link must go over, that is refused.",
    source="7.2, as for a child that lies below its new place",
    text="Should not change '{name}' link to '{node}'",
    unreachable="who stays at the filter of a commit has put a filter there: hazard.bitmap-lost",
)
INHERITS_ANYHOW = effect(
    "graph.inherits-anyhow",
    "A new backing file inherits from its overlay if it did so before, whatever lay between.",
    source="6.1; before, only through backing files and filters",
)
USERS_REVERSED = effect(
    "graph.users-reversed",
    "The users of a node that is replaced go over to the new one newest first, so that the oldest "
    "is the newest there.",
    source="6.1; before, they keep their order",
)
REPLACED_IS_NEWEST = effect(
    "graph.replaced-is-newest",
    "A link that comes to lead to another node becomes its parent's newest.",
    source="6.1; before, it keeps its place",
)
ABORT_REORDERS = effect(
    "graph.abort-reorders",
    "A link that was changed and changed back by a refused command becomes its node's newest.",
    source="7.2, seen by x-debug-query-block-graph",
)


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
    as soon as the links are gone that are being taken away. ``spent`` is how much work it has
    done with bytes (:func:`model.sizes.spend`).
    """

    __slots__ = (
        "_granted",
        "_later",
        "_pending",
        "_settled",
        "before",
        "closing",
        "devices",
        "ev",
        "events",
        "exports",
        "held",
        "images",
        "jobs",
        "keeping",
        "locks",
        "nbd_server",
        "nodes",
        "objects",
        "offloads",
        "serial",
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
        self._settled: Mapping[str, Node] = state.nodes
        self._granted: dict[tuple[LinkKey | Use, str], Grant] | None = None
        self.keeping: list[str] = []
        self.locks: list[str] = []
        self.closing = False
        self.offloads = False
        self.spent = 0
        self._later: dict[str, None] = {}
        self._pending: dict[str, dict[str, Any]] = {}

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

    def restore(self) -> None:
        """Forget what was done, order included: nothing that existed was moved.

        How a file is open by now stays as it is, and contexts are those that are left when
        the nodes that were opened have gone.
        """
        contexts.unwind(self)
        done, self.nodes = self.nodes, dict(self.before.nodes)
        self.held = {}
        for name, node in done.items():
            if name in self.nodes and self.nodes[name].context != node.context:
                self.change(name, context=node.context)
            if name in self.nodes and self.nodes[name].limits != node.limits:
                self.change(name, limits=node.limits)
        for name, node in self.before.nodes.items():
            settled = done[name]
            driver = driver_of(node.driver)
            if settled.private != node.private and driver.settled_for_good(settled):
                self.change(name, private=settled.private)
            if any(link.kept is not None for link in node.children):
                # What was worked out anew on the way stays so.
                fresh = {link.key for link in done[name].children if link.kept is None}
                children = (
                    attrs.evolve(link, kept=None) if link.key in fresh else link
                    for link in node.children
                )
                self.change(name, children=tuple(children))
        self._granted, self._settled = None, dict(self.nodes)

    def undo(self) -> Undo:
        """A fresh list of steps to take back."""
        return Undo()

    @property
    def granted(self) -> dict[tuple[LinkKey | Use, str], Grant]:
        """What each user of a node required and shared when that was settled last.

        By the user and the node: a link may have led elsewhere before.
        """
        if self._granted is None:
            derived = Permissions(self._settled, {})
            self._granted = {
                (key, name): derived.grant(key)
                for name, node in self._settled.items()
                for key in node.parents
            }
        return self._granted

    # Nodes that are being opened: their file is open before they have a name

    def begin_node(self, options: dict[str, Any]) -> str:
        """A stand-in for the name of a node under way, with the options its children inherit."""
        check_count(self.ev, "nodes", len(self.nodes) + len(self._pending) + 1)
        token = f"\0{len(self._pending)}"
        self._pending[token] = options
        return token

    def pending_options(self, parent: str) -> Mapping[str, Any]:
        """The options that children of a node, open or under way, inherit from."""
        pending = self._pending.get(parent)
        return self.nodes[parent].options if pending is None else pending

    def name_node(self, token: str, node: Node) -> None:
        """Put a node under its name into the graph."""
        del self._pending[token]
        for name, other in self.nodes.items():
            if other.inherits_from == token:
                self.change(name, inherits_from=node.name)
        self.nodes[node.name] = node

    # What waits until the command is through

    def put_off(self, node: str) -> None:
        """A node has something to do in the main loop; see :meth:`model.drivers.Driver.catch_up`.

        That it has been put off already changes nothing.
        """
        self._later.setdefault(node)

    def catch_up(self) -> None:
        """Let the nodes that are still there do what they put off, the last one first."""
        while self._later:
            name, _ = self._later.popitem()
            if name in self.nodes:
                self.driver(name).catch_up(self, self.nodes[name])

    # Looking around

    def driver(self, name: str) -> Driver:
        """The driver of a node."""
        return driver_of(self.nodes[name].driver)

    def length(self, name: str) -> int:
        """The length of a node in bytes."""
        node = self.nodes[name]
        return driver_of(node.driver).length(self, node)

    def primary_child(self, name: str) -> str:
        """The child that holds a node's data."""
        link = self.driver(name).primary(self.nodes[name])
        if link is None:
            raise LookupError(f"node {name!r} has no primary child")
        return link.child

    def primary_length(self, node: Node) -> int:
        """The length of the child that holds a node's data."""
        return self.length(self.primary_child(node.name))

    def filename(self, name: str) -> str:
        """The file name of a node as queries show it."""
        return Names(self.nodes).text(name)

    def below(self, name: str) -> Link | None:
        """The link to what a node filters or overlays, if there is one."""
        node = self.nodes[name]
        driver = driver_of(node.driver)
        return driver.primary(node) if driver.is_filter else node.link("backing")

    def chain(self, top: str, base: str | None) -> list[Link]:
        """The links from ``top`` down to ``base``, or to the end: filtered and backing files."""
        links: list[Link] = []
        name = top
        while name != base:
            link = self.below(name)
            if link is None and base is None:
                break
            if link is None:
                self.ev.meet(ENDLESS_CHAIN)
                self.ev.refuse(OFF_CHAIN, top=top, base=base)
                break
            links.append(link)
            name = link.child
        return links

    def freeze_chain(self, top: str, base: str | None) -> None:
        """Freeze the links from ``top`` down to ``base``, or to the end."""
        chain = self.chain(top, base)
        for link in chain:
            self.ev.check(
                FREEZE_FROZEN, not link.frozen, name=link.name, parent=link.parent, child=link.child
            )
        for link in chain:
            never = self.nodes[link.child].never_frozen
            self.ev.check(NEVER_FROZEN, not never, name=link.name, child=link.child)
        if self.ev.holds(FREEZES):
            for link in chain:
                self._freeze(link.key, 1)

    def unfreeze_chain(self, top: str, base: str | None) -> None:
        """Let the links from ``top`` down to ``base``, or to the end, be changed again."""
        if self.ev.holds(THAWS):
            for link in self.chain(top, base):
                if not link.frozen:
                    self.ev.meet(NOT_FROZEN)
                self._freeze(link.key, -1)

    def _freeze(self, key: LinkKey, by: int) -> None:
        parent = self.nodes[key[0]]
        children = tuple(
            attrs.evolve(link, frozen=max(0, link.frozen + by)) if link.key == key else link
            for link in parent.children
        )
        self.change(key[0], children=children)

    # Nodes

    def change(self, name: str, **changes: Any) -> Node:
        """Replace fields of a node."""
        node = self.nodes[name] = changed(self.nodes[name], changes)
        return node

    def references(self, name: str) -> int:
        """How many hold on to a node: the monitor, its parents, a copy-on-read that ends there.

        A job holds on to what it is about to replace; :attr:`keeping` are nodes that must not go
        before the command is through with them.
        """
        node = self.nodes[name]
        count = len(node.parents) + node.monitor_owned + self.keeping.count(name)
        count += sum(job.replacing == name for job in self.jobs.values())
        for other in self.nodes.values():
            if other.private is not None and driver_of(other.driver).holds(other, name):
                count += 1
        return count

    def release(self, name: str) -> None:
        """Delete a node, and what only it held on to, unless somebody still uses it."""
        node = self.nodes.get(name)
        if node is None or node.parents or self.references(name):
            return
        driver = driver_of(node.driver)
        driver.closed(self, node)
        bitmaps.lost(self, name)
        held = driver.held_by(node)
        contexts.need_lock(self, name)
        closing = self.closing
        for links in driver.lets_go(self.nodes[name]):
            self.closing = False
            for link in links:
                if link.frozen:
                    self.ev.meet(FROZEN_LOST)
                self.unset_inherits(name, link.name, None)
                self.drop(link)
                self.closing |= link.child not in self.nodes
        self.closing = closing
        del self.nodes[name]
        self.held.pop(name, None)
        if held is not None:
            self.release(held)

    def drop(self, link: Link) -> None:
        """Take a link away for good: what it required is required no more."""
        before = Permissions(dict(self.nodes), {})
        self.detach(link.key)
        loosen(self, link.child, before)
        contexts.leave(self, link.child)
        self.release(link.child)

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

    def attach_child(self, parent: str, name: str, child: str, role: int, undo: Undo) -> None:
        """Make ``child`` a child of ``parent``; permissions are the caller's business.

        The two may have to come to one context first. Raises :class:`model.rules.Refusal`.
        """
        if reaches(self.nodes, child, parent):
            self.ev.meet(CYCLE_UNNOTICED)
            self.ev.refuse(CYCLE, child=child, name=name, parent=parent)
        else:
            self.ev.accepted.add(CYCLE.id)
        link = Link(parent, name, child, role)
        if self.ev.holds(FROM_EACH):
            Descent(self, {}).check_new(link)
        places = contexts.join(self, parent, child)
        self.attach(link)

        def backward() -> None:
            self.detach(link.key)
            contexts.part(self, parent, child, places)

        undo.add(backward)

    def remove_child(self, key: LinkKey, undo: Undo) -> None:
        """Take a child away; the child is released when the change is settled."""
        before = self._lists(key)
        link = self.detach(key)
        undo.add(lambda: self._put_back(link, before), lambda: self.release(link.child))

    def replace_child(self, key: LinkKey, child: str, undo: Undo) -> None:
        """Let a link lead to another child; the old one is released when this is settled."""
        before = self._lists(key)
        forced = self.nodes[before[2]].force_share != self.nodes[child].force_share
        # The parent is not asked again what it shares with another child.
        kept = Permissions(self.nodes, {}).grant(key) if forced else None
        old = self.detach(key)
        self.attach(attrs.evolve(old, child=child, kept=kept or old.kept))
        if not self.ev.holds(REPLACED_IS_NEWEST):
            new = self.nodes[key[0]].children[0]
            places = (new if link.name == key[1] else link for link in before[0])
            self.change(key[0], children=tuple(places))

        def backward() -> None:
            self.detach(key)
            self._put_back(old, before)

        undo.add(backward, lambda: self.release(old.child))

    def _lists(self, key: LinkKey) -> tuple[tuple[Link, ...], tuple[LinkKey | Use, ...], str]:
        link = self.nodes[key[0]].link(key[1])
        if link is None:
            raise LookupError(f"node {key[0]!r} has no child {key[1]!r}")
        return self.nodes[key[0]].children, self.nodes[link.child].parents, link.child

    def _put_back(
        self, link: Link, before: tuple[tuple[Link, ...], tuple[LinkKey | Use, ...], str]
    ) -> None:
        if self.ev.holds(ABORT_REORDERS):
            self.attach(link)
        else:
            children, parents, child = before
            self.change(link.parent, children=children)
            self.change(child, parents=parents)

    def inherits(self, name: str, ancestor: str) -> bool:
        """Whether a node inherits its options from ``ancestor``, directly or through others."""
        if not self.ev.holds(INHERITS_ANYHOW) and all(
            link.child != name for link in self.chain(ancestor, None)
        ):
            return False
        current: str | None = name
        while current is not None and current != ancestor:
            node = self.nodes.get(current)
            current = node.inherits_from if node else None
        return current is not None

    def set_inherits(self, name: str, parent: str | None, undo: Undo | None) -> None:
        """Let a node inherit its options from ``parent`` from now on."""
        old = self.nodes[name].inherits_from
        self.change(name, inherits_from=parent)
        if undo is not None:
            undo.add(lambda: self._inherit(name, old))

    def _inherit(self, name: str, parent: str | None) -> None:
        self.change(name, inherits_from=parent)

    def unset_inherits(self, root: str, child_name: str, undo: Undo | None) -> None:
        """Below a child that ``root`` is about to lose, nobody inherits from ``root`` any more.

        A child that ``root`` also has under another name goes on inheriting.
        """
        link = self.nodes[root].link(child_name)
        if link is not None:
            self._unset_inherits(root, link, undo)

    def _unset_inherits(self, root: str, link: Link, undo: Undo | None) -> None:
        child = self.nodes[link.child]
        if child.inherits_from == root and not any(
            other.child == link.child and other.key != link.key
            for other in self.nodes[root].children
        ):
            self.set_inherits(link.child, None, undo)
        for below in child.children:
            self._unset_inherits(root, below, undo)

    def replace_node(self, old: str, new: str, undo: Undo, *, skip: bool = True) -> None:
        """Let every parent of ``old`` lead to ``new``, but those that lie below ``new`` itself.

        Users that stay at their node stay. Unless it is all right to ``skip`` one, either refuses.
        """
        below = set(topological(self.nodes, [new]))
        moving: list[LinkKey | Use] = []
        for key in self.nodes[old].parents:
            if isinstance(key, Use):
                if key.stays:
                    self.ev.check(STAYS, skip, name=key.label, node=old)
                else:
                    moving.append(key)
                continue
            link = self.nodes[key[0]].link(key[1])
            if link is None:
                continue
            if link.parent in below:
                self.ev.check(STAYS, skip, name=link.name, node=old)
                continue
            self.ev.check(FROZEN_REPLACE, not link.frozen, name=link.name, node=old)
            moving.append(key)
        for key in moving if self.ev.holds(USERS_REVERSED) else moving[::-1]:
            if isinstance(key, Use):
                self._move_use(key, new, undo)
            else:
                self.replace_child(key, new, undo)

    # Users

    def add_user(self, user: User) -> None:
        """Make a user known that uses nothing yet."""
        self.users[user.key] = user

    def use(
        self,
        user: str,
        label: str,
        node: str,
        grant: Grant,
        *,
        stays: bool,
        description: str,
    ) -> Use:
        """Let a user hold on to a node, requiring and sharing ``grant``.

        Raises :class:`model.rules.Refusal` where others do not agree; nothing has changed then.
        """
        if self.ev.holds(FROM_EACH):
            Descent(self, {}).check_users(node, *grant, ())
        places = contexts.join(self, user, node)
        before = dict(self.nodes)
        holder = self.users[user]
        name = label
        while any(name == known for known, _ in holder.links):
            base, _, number = name.partition("#")
            name = f"{base}#{int(number or 0) + 1}"
        use = Use(user, name, *grant, stays, description)
        self.change(node, parents=(use, *self.nodes[node].parents))
        try:
            refresh(self, [node])
        except Refusal:
            self.nodes = before
            contexts.part(self, user, node, places)
            raise
        self.users[user] = attrs.evolve(holder, links=((name, node), *holder.links))
        return use

    def used(self, user: str, name: str) -> tuple[str, Use]:
        """The node that a user's link leads to, and the link."""
        node = dict(self.users[user].links)[name]
        for key in self.nodes[node].parents:
            if isinstance(key, Use) and key[:2] == (user, name):
                return node, key
        raise LookupError(f"{user!r} has no link {name!r}")

    def unuse(self, user: str, name: str) -> None:
        """Let a user's hold on a node go; what it required is required no more."""
        node, use = self.used(user, name)
        before = Permissions(dict(self.nodes), {})
        self._take_use(node, use)
        holder = self.users[user]
        links = tuple(link for link in holder.links if link[0] != name)
        self.users[user] = attrs.evolve(holder, links=links)
        loosen(self, node, before)
        contexts.leave(self, node)
        self.release(node)

    def remove_user(self, user: str) -> None:
        """Forget a user, who lets go of everything, the newest first."""
        while self.users[user].links:
            self.unuse(user, self.users[user].links[0][0])
        del self.users[user]

    def _take_use(self, node: str, use: Use) -> None:
        parents = self.nodes[node].parents
        self.change(node, parents=tuple(key for key in parents if key is not use))

    def _move_use(self, use: Use, new: str, undo: Undo) -> None:
        """Let a user's link lead to another node; the old one is released when it is settled."""
        old, _ = self.used(use.user, use.name)

        def move(origin: str, goal: str) -> None:
            self._take_use(origin, use)
            self.change(goal, parents=(use, *self.nodes[goal].parents))
            holder = self.users[use.user]
            links = tuple((n, goal if n == use.name else x) for n, x in holder.links)
            self.users[use.user] = attrs.evolve(holder, links=links)

        move(old, new)
        undo.add(lambda: move(new, old), lambda: self.release(old))


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
