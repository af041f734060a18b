# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds from one state to the next: one function per sentence.

Each takes the state before, the command and its outcome, and returns None when the
sentence holds, else one line. The witnesses (:mod:`properties.witnesses`) see to it that
none of them holds only because nothing happened.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from model import Outcome, step
from model.commands.exports import STAYS_AND_TELLS
from model.data.length import flush
from model.data.requests import COPIED_ON_READ
from model.drivers.preallocate import PREALLOC_EARLY, PREALLOC_LATER, PREALLOC_STUCK
from model.graph.driver import driver_of
from model.graph.request_limits import take_limits
from model.graph.transition import Transition
from model.graph.traversal import reaches, topological
from model.operations.reopen import LENGTH_AGAIN, OMISSION_KEEPS
from model.operations.reopen_options import ACTIVE_TAKEN, RESET
from model.permissions.grants import Permissions
from model.release.rules import NotModelledError, Refusal
from model.values.private import PreallocateState, Qcow2State
from model.values.qdict import flatten
from model.values.state import FrozenDict, Perm, Role
from model.values.trace import OBJECT, REOPENS, name_of, reopened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from model import BlockState, Dialect
    from model.values.state import Image, Node
    from model.values.trace import Command

    Law = Callable[[BlockState, Command, Outcome], str | None]
    LawOfDialect = Callable[[BlockState, Command, Outcome, Dialect], str | None]

_QUERIES: Final = (
    "query-block-exports",
    "query-block-jobs",
    "query-jobs",
    "query-named-block-nodes",
    "x-debug-query-block-graph",
)
STARTS: Final = ("block-commit", "block-stream", "blockdev-backup", "blockdev-mirror")
"""The commands that start jobs."""
_MAKERS: Final = ("blockdev-add", "blockdev-del")
_BY_LENGTH: Final = frozenset({"permissions.alignment", "raw.offset", "raw.size"})
_REPLACING: Final = {
    "l2-cache-size": ("cache-size",),
    "overlap-check": ("overlap-check.template",),
    "refcount-cache-size": ("cache-size",),
}
"""What replaces an option, or all that begins with it, though it is not mentioned."""
_QEMUS_OWN: Final = ("cache.direct", "cache.no-flush", "read-only", "auto-read-only", "discard")
"""Options that QEMU writes down by itself where a client leaves them out."""


def same_but_for_order(one: BlockState, other: BlockState, dialect: Dialect) -> bool:
    """Whether two states differ at most in what even a refused command may touch.

    That is: the order of links in the lists of their parent and child (a link that was
    moved and moved back is the newest), how many node names have been generated, the
    threads that nodes live in, how a file node's descriptor is really open, which 7.2 does
    not always know itself, what has been written down by now, of tables and lazy refcounts, and
    what is known by now: of permissions, of limits, and of the end of a file that could not be cut.
    """
    one, other = _flushed(one, dialect), _flushed(other, dialect)
    return (
        one.objects == other.objects
        and _written_down(one.images) == _written_down(other.images)
        and _elsewhere(one) == _elsewhere(other)
        and one.jobs == other.jobs
        and one.exports == other.exports
        and one.nbd_server == other.nbd_server
        and list(one.nodes) == list(other.nodes)
        and all(
            mine is theirs or _sorted(mine) == _sorted(theirs)
            for mine, theirs in zip(one.nodes.values(), other.nodes.values(), strict=True)
        )
    )


def _flushed(state: BlockState, dialect: Dialect) -> BlockState:
    """The state when everything is written down, and every node knows its limits."""
    t = Transition(state, dialect.evaluation())
    for name in state.nodes:
        with suppress(NotModelledError):
            flush(t, name)
    for name in reversed(topological(t.nodes, list(t.nodes))):
        take_limits(t, name)
    return t.result()


def _elsewhere(state: BlockState) -> dict[str, tuple[tuple[str, str], ...]]:
    return {key: tuple(sorted(user.links)) for key, user in state.users.items()}


def _written_down(images: Mapping[str, Image]) -> dict[str, Image]:
    return {name: attrs.evolve(image, dirty=False) for name, image in images.items()}


def _sorted(node: Node) -> Node:
    private = None if node.driver == "file" else node.private
    if isinstance(private, Qcow2State):
        private = attrs.evolve(private, dirty=False, sweeping=False)
    elif isinstance(private, PreallocateState):
        private = attrs.evolve(private, file_end=None)
    links = (attrs.evolve(link, kept=None) for link in node.children)
    return attrs.evolve(
        node,
        context="",
        private=private,
        children=tuple(sorted(links, key=lambda link: link.name)),
        parents=tuple(sorted(node.parents)),
    )


def accepted(command: Command, outcome: Outcome, *names: str) -> bool:
    """Whether this was one of the commands, and it was accepted."""
    return outcome.ok and command.get("execute") in names


def entries(command: Command) -> Iterator[tuple[str, dict[str, Any]]]:
    """Node name and flat options of each node that a reopen speaks of; the last entry counts."""
    last = {str(each.get("node-name")): each for each in reopened(command)}
    for name, options in last.items():
        yield name, flatten(options)


def queued_once(before: BlockState, command: Command) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a reopen whose node comes up nowhere else in the transaction.

    A node that is listed twice, or that inherits its options from another one in the list,
    is queued more than once, and what the queue already has of it is kept.
    """
    listed = [str(each.get("node-name")) for each in reopened(command)]
    for name, given in entries(command):
        source: str | None = name
        inherits = False
        while source is not None and source in before.nodes and not inherits:
            source = before.nodes[source].inherits_from
            inherits = source in listed
        if listed.count(name) == 1 and not inherits:
            yield name, given


def refused_commands_change_nothing(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """An error means that nothing happened, the order of links aside.

    A job that could not start leaves more behind: a node that was to be written, and is not, has
    been reopened twice; the block backend of a stream is lost. A preallocate node that was to
    become read-only may have given back its space and rights too early, which it sees later;
    one that could not be resized claims rights, and one that nobody writes through any more may see
    so only when a command that is refused has its permissions looked at. One that is to be resized
    looks at its file first, and may see there that a reopen has given it another (seen on 7.2).
    Of an export, an error may tell only that it is in another thread. A device that looks at its
    disk may have copied on read.
    """
    after = outcome.state
    if outcome.unmodelled:
        return None if after is before else "the command is not modelled and the state is another"
    if outcome.ok or after is before or same_but_for_order(before, after, dialect):
        return None
    if command.get("execute") in STARTS and _same_graph(before, after):
        return None
    wrong_about_space = outcome.accepted & {PREALLOC_EARLY.id, PREALLOC_STUCK.id}
    sees_late = PREALLOC_LATER.id in outcome.accepted and any(_claims_in_vain(before))
    too_early = dialect.has(PREALLOC_EARLY) and any(_gave_too_early(before))
    if wrong_about_space or sees_late or too_early:
        one, other = _without_space(before, dialect), _without_space(after, dialect)
        if same_but_for_order(one, other, dialect):
            return None
    if name_of(command) == "block_resize":
        one, other = _without_file_ends(before), _without_file_ends(after)
        if same_but_for_order(one, other, dialect):
            return None
    if STAYS_AND_TELLS.id in outcome.accepted:
        after = attrs.evolve(after, exports=before.exports)
    elif COPIED_ON_READ.id in outcome.accepted:
        after = attrs.evolve(after, images=before.images)
    else:
        return "the command was refused and the state is another"
    same = _same_graph(before, after)
    return None if same else "the command was refused and the state is another"


def _gave_too_early(state: BlockState) -> Iterator[Node]:
    """The preallocate nodes that have given back space and rights, and have users that write."""
    known = Permissions(state.nodes, {})
    for node in state.nodes.values():
        if isinstance(node.private, PreallocateState) and node.private.data_end is None:
            perm, _ = known.cumulative(node.name)
            if perm & Perm.WRITE and perm & Perm.RESIZE:
                yield node


def _claims_in_vain(state: BlockState) -> Iterator[Node]:
    """The preallocate nodes that claim to be alone while nobody writes and resizes there."""
    known = Permissions(state.nodes, {})
    for node in state.nodes.values():
        if isinstance(node.private, PreallocateState) and node.private.alone:
            perm, _ = known.cumulative(node.name)
            if not (perm & Perm.WRITE and perm & Perm.RESIZE):
                yield node


def _without_file_ends(state: BlockState) -> BlockState:
    """The state without what preallocate nodes know of how far their files reach."""
    nodes = {
        name: attrs.evolve(node, private=attrs.evolve(node.private, data_end=None, file_end=None))
        if isinstance(node.private, PreallocateState)
        else node
        for name, node in state.nodes.items()
    }
    return attrs.evolve(state, nodes=FrozenDict(nodes))


def _without_space(state: BlockState, dialect: Dialect) -> BlockState:
    """What would be left if all preallocate nodes gave back their space and rights."""
    t = Transition(state, dialect.evaluation())
    for node in state.nodes.values():
        if isinstance(node.private, PreallocateState):
            with suppress(Refusal):
                driver_of(node.driver).stop_writing(t, node)
            private = PreallocateState(node.private.align, node.private.size)
            t.change(node.name, private=private)
    return t.result()


def _same_graph(one: BlockState, other: BlockState) -> bool:
    return (
        list(one.nodes) == list(other.nodes)
        and sorted(_edges(one)) == sorted(_edges(other))
        and (one.objects, one.images, one.jobs, one.exports, one.nbd_server)
        == (other.objects, other.images, other.jobs, other.exports, other.nbd_server)
    )


def queries_change_nothing(before: BlockState, command: Command, outcome: Outcome) -> str | None:
    """Asking leaves no trace at all."""
    if command.get("execute") in _QUERIES and outcome.state != before:
        return "a query changed the state"
    return None


def omitted_options_are_at_their_defaults(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """After a reopen a node has the options that were given and no others."""
    if not accepted(command, outcome, *REOPENS) or dialect.has(OMISSION_KEEPS):
        return None
    for name, given in queued_once(before, command):
        node = outcome.state.nodes.get(name)
        if node is None:
            continue
        for key in (*node.explicit, *node.options):
            if key not in given and key not in _QEMUS_OWN and key != "driver":
                return f"{name!r} kept {key!r}, which was omitted"
        if "detect-zeroes" not in given and node.detect_zeroes != "off":
            return f"{name!r} kept detect-zeroes={node.detect_zeroes}, which was omitted"
    return None


def omitted_options_are_kept(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """Where a reopen keeps what was left out, a node has all that it had and was not given.

    But for what its driver takes for a part of something that was given.
    """
    if not accepted(command, outcome, *REOPENS) or not dialect.has(OMISSION_KEEPS):
        return None
    for name, given in queued_once(before, command):
        old, new = before.nodes[name], outcome.state.nodes.get(name)
        if new is None:
            continue
        for key, value in old.explicit.items():
            if not _is_replaced(key, given) and new.explicit.get(key) != value:
                return f"{name!r} lost {key!r}, which was omitted"
        if "detect-zeroes" not in given and new.detect_zeroes != old.detect_zeroes:
            return f"{name!r} lost detect-zeroes={old.detect_zeroes}, which was omitted"
    return None


def _is_replaced(key: str, given: Mapping[str, Any]) -> bool:
    """Whether a client speaks of an option, or of what replaces it.

    Any cache size replaces the old total, and if none is given the old ones do.
    """
    whole, _, _ = key.partition(".")
    if key == "cache-size":
        return True
    return any(each in given for each in (key, whole, *_REPLACING.get(whole, ())))


def given_options_are_set(before: BlockState, command: Command, outcome: Outcome) -> str | None:
    """After a reopen what was asked for holds."""
    if not accepted(command, outcome, *REOPENS):
        return None
    for name, given in queued_once(before, command):
        node = outcome.state.nodes.get(name)
        if node is None:
            continue
        if given.get("detect-zeroes", node.detect_zeroes) != node.detect_zeroes:
            return f"{name!r} has detect-zeroes={node.detect_zeroes}"
        if given.get("read-only") is True and not node.read_only:
            return f"{name!r} is writable although read-only was asked for"
        if given.get("cache.direct", node.no_cache) != node.no_cache:
            return f"{name!r} has cache.direct={node.no_cache}"
        for child in ("file", "backing"):
            wanted = given.get(child)
            link = node.link(child)
            shown = None if link is None else explicit(outcome.state, link.child)
            if isinstance(wanted, str) and wanted and shown != explicit(outcome.state, wanted):
                return f"the {child} of {name!r} is not {wanted!r}"
    return None


def explicit(state: BlockState, name: str) -> str:
    """A node, or what lies below it where it is a filter that no client shall see."""
    while name in state.nodes and state.nodes[name].implicit:
        below = [link for link in state.nodes[name].children if link.role & Role.FILTERED]
        if not below:
            break
        name = below[0].child
    return name


def reopening_keeps_who_owns_what(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """A reopen neither creates a node nor takes one that the monitor owns."""
    if not accepted(command, outcome, *REOPENS):
        return None
    if _owned(before) != _owned(outcome.state):
        return "the monitor owns other nodes than before"
    new = [name for name in outcome.state.nodes if name not in before.nodes]
    return f"{new[0]!r} appeared" if new else None


def _owned(state: BlockState) -> list[str]:
    return [node.name for node in state.nodes.values() if node.monitor_owned]


def lost_children_no_longer_inherit(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """A child that a reopen took from its parent does not inherit from it any more."""
    if not accepted(command, outcome, *REOPENS):
        return None
    kept = {(link.parent, link.child) for link in outcome.state.links()}
    for parent, child in lost(before, outcome):
        node = outcome.state.nodes.get(child)
        if (parent, child) not in kept and node is not None and node.inherits_from == parent:
            return f"{child!r} goes on inheriting from {parent!r}"
    return None


def lost(before: BlockState, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Parent and child of each link that is no more."""
    now = set(_edges(outcome.state))
    for parent, name, child in _edges(before):
        if (parent, name, child) not in now:
            yield parent, child


def added_nodes_are_there(before: BlockState, command: Command, outcome: Outcome) -> str | None:
    """blockdev-add makes a node that the monitor owns, and changes no options of the others."""
    if not accepted(command, outcome, "blockdev-add"):
        return None
    name = command["arguments"]["node-name"]
    node = outcome.state.nodes.get(name)
    if name in before.nodes or node is None or not node.monitor_owned:
        return f"{name!r} was not made"
    if node.driver != command["arguments"]["driver"]:
        return f"{name!r} is a {node.driver} node"
    for old in before.nodes.values():
        now = outcome.state.nodes.get(old.name)
        if now is None or now.options != old.options:
            return f"{old.name!r} is gone or has other options"
    return None


def deleted_nodes_are_gone(before: BlockState, command: Command, outcome: Outcome) -> str | None:
    """blockdev-del takes the node away, and no other that the monitor owns."""
    if not accepted(command, outcome, "blockdev-del"):
        return None
    name = command["arguments"]["node-name"]
    if name in outcome.state.nodes:
        return f"{name!r} is still there"
    if [each for each in _owned(before) if each != name] != _owned(outcome.state):
        return "other nodes went away with it"
    return None


def objects_come_and_go_by_name(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """object-add makes that object, object-del takes it away, and nothing else touches objects.

    Nothing but the command line, where the release has no object-add.
    """
    objects = dict(before.objects)
    if accepted(command, outcome, "object-add", OBJECT):
        name = command["arguments"]["id"]
        if name in objects or name not in outcome.state.objects:
            return f"{name!r} was not made"
        objects[name] = outcome.state.objects[name]
    if accepted(command, outcome, "object-del"):
        name = command["arguments"]["id"]
        if objects.pop(name, None) is None:
            return f"{name!r} was deleted and did not exist"
    return None if objects == outcome.state.objects else "other objects than before"


def snapshots_put_the_overlay_on_top(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """After blockdev-snapshot the overlay is backed by the node, and has its former users."""
    if not accepted(command, outcome, "blockdev-snapshot"):
        return None
    node, overlay = command["arguments"]["node"], command["arguments"]["overlay"]
    link = outcome.state.nodes[overlay].link("backing")
    if link is None or link.child != node:
        return f"{node!r} is not the backing file of {overlay!r}"
    # What lies below the overlay goes on using the node: anything else would be a cycle.
    former = [
        key for key in before.nodes[node].parents if not reaches(before.nodes, overlay, key[0])
    ]
    # An overlay may have users already, as long as they require nothing of it.
    former += before.nodes[overlay].parents
    now = outcome.state.nodes[overlay].parents
    return None if sorted(former) == sorted(now) else f"{overlay!r} has other users than {node!r}"


def _edges(state: BlockState) -> list[tuple[str, str, str]]:
    return [(link.parent, link.name, link.child) for link in state.links()]


def reopening_is_idempotent(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """An accepted reopen, repeated, is accepted and changes nothing, the order of links aside.

    One that changed links is left out: a node that has become a child takes part in the
    second transaction and took none in the first, with options of its own to object to.
    """
    if not accepted(command, outcome, *REOPENS):
        return None
    if sorted(_edges(before)) != sorted(_edges(outcome.state)):
        return None
    again = step(outcome.state, command, dialect)
    # The first time nodes go by lengths and alignments as they were, then as they have become.
    if again.hazards or again.unmodelled or again.refused & _BY_LENGTH:
        return None
    taken = ACTIVE_TAKEN.id in outcome.accepted and any(
        "active" in each for each in reopened(command)
    )
    if taken and RESET.id in again.refused:
        # From then on the option is set, and must not be left out: but it is taken out again.
        return None
    if not again.ok:
        return f"once more it is refused: {again.reply['error']['desc']}"
    one, other = again.state, outcome.state
    if LENGTH_AGAIN.id in again.accepted:
        one, other = _without_lengths(one), _without_lengths(other)
    same = same_but_for_order(one, other, dialect)
    return None if same else "once more it leads to another state"


def _without_lengths(state: BlockState) -> BlockState:
    nodes = {name: attrs.evolve(node, size=0) for name, node in state.nodes.items()}
    return attrs.evolve(state, nodes=FrozenDict(nodes))


LAWS: tuple[Law, ...] = (
    queries_change_nothing,
    given_options_are_set,
    reopening_keeps_who_owns_what,
    lost_children_no_longer_inherit,
    added_nodes_are_there,
    deleted_nodes_are_gone,
    objects_come_and_go_by_name,
    snapshots_put_the_overlay_on_top,
)
"""Those that are the same in every dialect."""

LAWS_OF_DIALECT: tuple[LawOfDialect, ...] = (
    refused_commands_change_nothing,
    omitted_options_are_at_their_defaults,
    omitted_options_are_kept,
    reopening_is_idempotent,
)
"""Those that ask what is true of a dialect, which they are told."""
