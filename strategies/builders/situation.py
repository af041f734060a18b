# SPDX-License-Identifier: GPL-2.0-or-later
"""A state of the model as a client sees it, and the conditions that commands ask of it.

A condition is cheap and draws nothing: Hypothesis asks it several times for each step. Its
docstring says what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from model.values.state import IOThread
from strategies.choices.drivers import CHILD
from strategies.choices.option_values import OPTIONS
from strategies.choices.weights import (
    MOST_DEVICES,
    MOST_EXPORTS,
    MOST_JOBS,
    MOST_NODES,
    MOST_OBJECTS,
)

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from model.values.state import BlockState, Node

_ON_THE_WAY = 3
"""So many nodes more may be added on the way into a corner."""


def generated(name: str) -> bool:
    """Whether QEMU made this name up; no command can refer to such a node twice."""
    return name.startswith("#")


def describable(node: Node) -> bool:
    """Whether a client could have made a node, and can refer to it; jobs make others."""
    return node.driver in OPTIONS and not generated(node.name)


def idle(node: Node) -> bool:
    """Whether nothing uses the node but its owner."""
    return not node.parents


def is_overlay(node: Node) -> bool:
    """Whether a node may become the overlay of a snapshot."""
    return node.driver == "qcow2" and idle(node) and node.link("backing") is None


class Situation:
    """A state, and those of its nodes that a client can describe.

    ``everything`` are the nodes that a client can refer to. What a real QEMU calls the others is
    not what the model calls them. ``nodes`` are those of them that it could have made itself: not
    the filters of jobs.
    """

    __slots__ = ("dialect", "everything", "nodes", "state")

    def __init__(self, state: BlockState, dialect: Dialect) -> None:
        self.state = state
        self.dialect = dialect
        self.everything: tuple[Node, ...] = tuple(
            node for node in state.nodes.values() if not generated(node.name)
        )
        self.nodes: tuple[Node, ...] = tuple(
            node for node in self.everything if node.driver in OPTIONS
        )

    def has_few_jobs(self) -> bool:
        """Whether there may be one more job."""
        return len(self.state.jobs) < MOST_JOBS


Condition = Callable[[Situation], bool]


def always(_situation: Situation) -> bool:
    """Always."""
    return True


def only_at_first(_situation: Situation) -> bool:
    """Only where an example begins."""
    return False


def has_node(situation: Situation) -> bool:
    """There is a node to refer to."""
    return bool(situation.nodes)


def has_qcow2(situation: Situation) -> bool:
    """There is a qcow2 node."""
    return any(node.driver == "qcow2" for node in situation.nodes)


def has_quorum(situation: Situation) -> bool:
    """There is a quorum."""
    return any(node.driver == "quorum" for node in situation.nodes)


def has_resizable(situation: Situation) -> bool:
    """There is a node whose size a client may change."""
    return any(node.driver in _RESIZED for node in situation.nodes)


def has_file(situation: Situation) -> bool:
    """There is a node with a file that may be another one."""
    return any(CHILD.get(node.driver) == "file" for node in situation.nodes)


def has_overlay(situation: Situation) -> bool:
    """There is a node that could become an overlay, and another one."""
    return len(situation.nodes) > 1 and any(is_overlay(node) for node in situation.nodes)


def has_room(situation: Situation) -> bool:
    """The graph is small enough to add to."""
    return len(situation.state.nodes) <= MOST_NODES


def has_room_on_the_way(situation: Situation) -> bool:
    """The graph is small enough for one node more on the way into a corner."""
    return len(situation.state.nodes) <= MOST_NODES + _ON_THE_WAY


def has_room_for_a_tower(situation: Situation) -> bool:
    """The graph is small enough to add several images at once."""
    return len(situation.state.nodes) <= MOST_NODES // 2


def has_room_for_objects(situation: Situation) -> bool:
    """There are few enough objects."""
    return len(situation.state.objects) <= MOST_OBJECTS


def has_objects(situation: Situation) -> bool:
    """There is an object."""
    return bool(situation.state.objects)


def has_jobs(situation: Situation) -> bool:
    """There is a job."""
    return bool(situation.state.jobs)


def has_busy_nodes(situation: Situation) -> bool:
    """There is a job, and a node."""
    return bool(situation.state.jobs) and bool(situation.nodes)


def has_frozen(situation: Situation) -> bool:
    """Some link is frozen."""
    return any(link.frozen for node in situation.nodes for link in node.children)


def has_chain(situation: Situation) -> bool:
    """There are few enough jobs, and a chain of backing files to work on."""
    return situation.has_few_jobs() and any(
        node.driver == "qcow2" and node.link("backing") is not None for node in situation.nodes
    )


def has_long_chain(situation: Situation) -> bool:
    """There are few enough jobs, and a backing file that has one itself."""
    if not situation.has_few_jobs():
        return False
    nodes = situation.state.nodes
    backing = [link for node in situation.nodes if (link := node.link("backing"))]
    return any(nodes[link.child].link("backing") is not None for link in backing)


def has_long_chain_and_room(situation: Situation) -> bool:
    """There is a long chain for a job, and room for one node more."""
    return has_room_on_the_way(situation) and has_long_chain(situation)


def has_node_and_room(situation: Situation) -> bool:
    """There is a node, and room for one more."""
    return has_room_on_the_way(situation) and has_node(situation)


def has_pair(situation: Situation) -> bool:
    """There are few enough jobs, and two nodes on top, to copy one to the other."""
    if not situation.has_few_jobs():
        return False
    return sum(node.driver != "file" and not node.parents for node in situation.nodes) > 1


def has_room_for_exports(situation: Situation) -> bool:
    """There are few enough exports, and a node to export."""
    return len(situation.state.exports) < MOST_EXPORTS and bool(situation.nodes)


def has_exports(situation: Situation) -> bool:
    """There is an export."""
    return bool(situation.state.exports)


def has_threads(situation: Situation) -> bool:
    """There is an iothread, and a node to move."""
    return bool(situation.nodes) and any(
        isinstance(each, IOThread) for each in situation.state.objects.values()
    )


def has_threads_and_room(situation: Situation) -> bool:
    """There is an iothread, and few enough exports to add one."""
    return len(situation.state.exports) < MOST_EXPORTS and has_threads(situation)


def has_room_for_devices(situation: Situation) -> bool:
    """There are few enough devices, and a node for one more."""
    return len(situation.state.devices) < MOST_DEVICES and bool(situation.nodes)


def has_devices(situation: Situation) -> bool:
    """There is a device."""
    return bool(situation.state.devices)


def has_devices_and_room(situation: Situation) -> bool:
    """There is a device, and few enough to add another one."""
    return has_room_for_devices(situation) and has_devices(situation)


def has_job_for(verb: str) -> Condition:
    """The condition that there is a job whose state takes a verb."""

    def has_job(situation: Situation) -> bool:
        return any(verb in TAKES.get(job.status, ()) for job in situation.state.jobs.values())

    has_job.__doc__ = f"There is a job that takes {verb!r}."
    return has_job


_RESIZED = ("file", "qcow2", "raw")

TAKES: dict[str, tuple[str, ...]] = {
    "running": ("cancel", "pause", "set-speed"),
    "paused": ("cancel", "resume", "set-speed"),
    "ready": ("cancel", "pause", "set-speed", "complete"),
    "standby": ("cancel", "resume", "set-speed", "complete"),
    "pending": ("cancel", "finalize"),
    "concluded": ("dismiss",),
}
"""The verbs that a job takes, by the status in which it rests."""
