# SPDX-License-Identifier: GPL-2.0-or-later
"""AioContexts: in which thread a node's requests are handled.

A node lives in the main loop or in an iothread. Nodes that are connected by links live in the
same one, and so do their users, so a node takes everything along that it is connected with
in whatever way, or stays. What cannot move is a block backend that was not told to follow.

No query shows any of this. Clients notice it by what is refused, since two parts of the graph
that cannot move to each other cannot be connected (see docs/contexts.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from model.graph.traversal import above, driver_at
from model.release.rules import Refusal, effect, guard, hazard
from model.values.state import Use, User

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from model.graph.transition import Transition
    from model.values.state import LinkKey

MAIN = ""
"""The main loop, as a context."""

FIXED = guard(
    "context.fixed",
    "A block backend that does not follow its node keeps it, and all that is connected with it, "
    "in the context where they are.",
    source="7.2",
    text="Cannot change iothread of active block backend",
)
CHILD_FIRST = effect(
    "context.child-first",
    "A child that is attached to a parent in another context moves there.",
    source="7.2",
)
PARENT_SECOND = effect(
    "context.parent-second",
    "Where the new child cannot move, the parent moves to it.",
    source="7.2",
)
BACK = effect(
    "context.back",
    "A node that loses a user for good goes back to the main loop, if it can.",
    source="7.2",
)
ABORT_RETURNS = effect(
    "context.abort-returns",
    "A child that moved when it was attached goes back when that is undone, and so does the "
    "parent.",
    source="7.2",
)
JOB_TAKES_ALONG = effect(
    "context.job-takes-along",
    "A job moves with any node that it works on and takes all others along.",
    source="7.2",
)
MOVES_LOCKED = effect(
    "context.moves-locked",
    "Who moves a parent to its new child has to have locked the iothread that it comes from, and "
    "who puts an overlay above a node that moves, the one that it comes to.",
    source="5.2, see hazard.unlocked-iothread",
)
UNLOCKED = hazard(
    "hazard.unlocked-iothread",
    "A node leaves an iothread, or is read, closed or drained there, by a command that has not "
    "locked it.",
    source="7.2 releases the iothread's lock, which it does not hold, and ends with 'Operation not "
    "permitted'",
)
LOCK_KEPT = hazard(
    "hazard.iothread-lock-kept",
    "A node that is resized in an iothread goes back to the main loop.",
    source="7.2 never releases the iothread's lock again, and hangs when the iothread has work",
)

LOCK_HELD = hazard(
    "hazard.throttle-moves-locked",
    "What a throttle node is above comes to an iothread whose lock the command holds.",
    source="7.2 waits for the iothread, and that for the lock, for ever",
)
SWEEP_AWAITED = hazard(
    "hazard.sweep-awaited",
    "A qcow2 node that was reopened in an iothread, and looks through its caches there, goes back "
    "to the main loop while something is about to be closed: the next export of an NBD server "
    "that stops, or a child that went with its parent and that the parent let go of before.",
    source="11.1 waits for the node in the midst of changing the graph, and begins to close the "
    "other thing meanwhile: it hangs, or ends with an assertion in bdrv_graph_wrlock",
)
UNREADY = hazard(
    "hazard.throttle-moves-early",
    "A throttle node follows its file to an iothread while it is being opened.",
    source="7.2 detaches it from the group that it has not joined yet, and ends by a signal",
)


class Places(NamedTuple):
    """Where a parent and its child were before they were connected."""

    parent: str
    child: str


def in_use(t: Transition) -> bool:
    """Whether any node lives in an iothread."""
    return any(node.context != MAIN for node in t.nodes.values())


class locked:  # noqa: N801  # a context manager, written out since every reopen goes through it
    """Hold the lock of the iothread in which a node is now."""

    __slots__ = ("_context", "_t")

    def __init__(self, t: Transition, node: str) -> None:
        self._t = t
        self._context = t.nodes[node].context

    def __enter__(self) -> None:
        self._t.locks.append(self._context)

    def __exit__(self, *_: object) -> None:
        self._t.locks.remove(self._context)


def need_lock(t: Transition, node: str) -> None:
    """Something is done with a node that takes the lock of its iothread."""
    context = t.nodes[node].context
    if context not in (MAIN, *t.locks):
        t.ev.meet(UNLOCKED)


def drain(t: Transition, node: str) -> None:
    """A node is drained: that takes the lock where something above is slow to stop."""
    if t.nodes[node].context == MAIN:
        return
    nodes = above(t.nodes, [node])
    if drivers_stop_slowly(t, nodes) or jobs_stop(t, nodes):
        need_lock(t, node)


def drivers_stop_slowly(t: Transition, nodes: Collection[str]) -> bool:
    """Whether a drain of these nodes has to wait for a driver each time."""
    return any(driver_at(t, name).stops_slowly for name in nodes)


def jobs_stop(t: Transition, nodes: Collection[str], drained: Collection[str] = ()) -> bool:
    """Whether a drain of these nodes has to wait for a job that those ``drained`` do not stop."""
    for job in t.jobs.values():
        held = [node for _, node in t.users[job.user].links] if job.works else []
        if any(node in nodes for node in held) and not any(node in drained for node in held):
            return True
    return False


def change(t: Transition, node: str, context: str) -> None:
    """Move a node to a context with all that is connected with it. Raises :class:`Refusal`."""
    reached = _Reach(t, context).from_node(node)
    need_lock(t, node)
    _settle(t, reached, context)


def try_change(t: Transition, node: str, context: str) -> bool:
    """Move a node to a context if that is possible; returns whether it was."""
    try:
        change(t, node, context)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        return False
    return True


def leave(t: Transition, node: str) -> None:
    """A node has lost a user for good: it goes back to the main loop if nothing pins it."""
    if t.nodes[node].context == MAIN or not t.ev.holds(BACK):
        return
    swept = _sweeping(t) if t.closing else set()
    try_change(t, node, MAIN)
    if swept - _sweeping(t):
        t.ev.meet(SWEEP_AWAITED)


def _sweeping(t: Transition) -> set[str]:
    """The nodes that look through their caches in an iothread."""
    return {name for name, node in t.nodes.items() if driver_at(t, name).sweeps(node)}


def join(t: Transition, parent: str, child: str) -> Places:
    """Bring a child and its new parent, a node or a user, together before they are linked.

    Raises :class:`Refusal` if neither can move to the other. Returns where they were.
    """
    places = Places(_context(t, parent), t.nodes[child].context)
    if places.parent == places.child:
        return places
    try:
        if t.ev.holds(CHILD_FIRST):
            change(t, child, places.parent)
        else:
            _follow(t, parent, places.child)
    except Refusal as refusal:
        if not t.ev.holds(PARENT_SECOND):
            raise
        try:
            _follow(t, parent, places.child)
        except Refusal:
            raise refusal from None
        t.ev.refused.discard(refusal.rule.id)
    return places


def can_join(t: Transition, parent: str, child: str) -> None:
    """Whether a child and its new parent can come together; raises what the parent's move is told.

    Nothing is moved.
    """
    context = t.nodes[parent].context
    if context == t.nodes[child].context:
        return
    try:
        _Reach(t, context).from_node(child)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        _Reach(t, t.nodes[child].context).from_node(parent)


def part(t: Transition, parent: str, child: str, places: Places) -> None:
    """Put a child and its parent back where they were before they were connected."""
    if not t.ev.holds(ABORT_RETURNS):
        leave(t, child)
        return
    if t.nodes[child].context != places.child:
        change(t, child, places.child)
    if _context(t, parent) != places.parent:
        _follow(t, parent, places.parent)


def _context(t: Transition, parent: str) -> str:
    user = t.users.get(parent)
    return t.nodes[parent].context if user is None else user.context


def _follow(t: Transition, parent: str, context: str) -> None:
    """Move a parent that is not yet linked to the child in question."""
    user = t.users.get(parent)
    reach = _Reach(t, context)
    reached = reach.from_node(parent) if user is None else reach.from_user(user)
    if t.ev.holds(MOVES_LOCKED):
        for name in reached.nodes:
            need_lock(t, name)
    _settle(t, reached, context)
    if drivers_stop_slowly(t, above(t.nodes, reached.nodes)):
        # The drains end in the new context, of which nobody has taken the lock.
        for name in reached.nodes:
            need_lock(t, name)


class _Reach:
    """What has to move: nodes and users, in the order in which they were found."""

    __slots__ = ("_context", "_seen", "_t", "nodes", "users")

    def __init__(self, t: Transition, context: str) -> None:
        self._t = t
        self._context = context
        self._seen: set[LinkKey] = set()
        self.nodes: dict[str, None] = {}
        """Those that are through, with all that is connected with them, and drained by then."""
        self.users: dict[str, None] = {}

    def from_user(self, user: User) -> _Reach:
        """A user and what it takes along. Raises :class:`Refusal`."""
        return self._find(lambda: self._take(user))

    def from_node(self, name: str) -> _Reach:
        """A node and all that is connected with it. Raises :class:`Refusal`."""
        return self._find(lambda: self._visit(name))

    def _find(self, search: Callable[[], None]) -> _Reach:
        try:
            search()
        except Refusal:
            for name in self.nodes:
                drain(self._t, name)
            raise
        return self

    def _visit(self, name: str) -> None:
        """Parents first, then children, and then the node itself, each link once."""
        node = self._t.nodes[name]
        if node.context == self._context:
            return
        for key in node.parents:
            if isinstance(key, Use):
                if self._is_new((key.user, key.name)):
                    self._take(self._t.users[key.user])
            elif self._is_new(key):
                self._visit(key[0])
        for link in node.children:
            if self._is_new(link.key):
                self._visit(link.child)
        self.nodes[name] = None

    def _is_new(self, link: LinkKey) -> bool:
        new = link not in self._seen
        self._seen.add(link)
        return new

    def _take(self, user: User) -> None:
        """Let a user come along with the nodes that it takes with it."""
        if user.key in self.users:
            return
        self._t.ev.check(FIXED, user.follows)
        self.users[user.key] = None
        if user.kind == "block-job" and self._t.ev.holds(JOB_TAKES_ALONG):
            for name, node in user.links:
                if self._is_new((user.key, name)):
                    self._visit(node)


def _settle(t: Transition, reach: _Reach, context: str) -> None:
    for name in reach.nodes:
        node = t.nodes[name]
        if node.driver == "throttle" and node.private is None:
            t.ev.meet(UNREADY)
        t.change(name, context=context, private=driver_at(t, name).moved(node))
    held = context != MAIN and context in t.locks
    if held and drivers_stop_slowly(t, above(t.nodes, reach.nodes)):
        t.ev.meet(LOCK_HELD)
    for key in reach.users:
        t.users[key] = attrs.evolve(t.users[key], context=context)
