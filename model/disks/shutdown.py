# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a process: jobs are cancelled, users let go, nodes closed and files written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.commands.exports import block_export_del
from model.edits import block_backends
from model.edits.links import release
from model.jobs import lifecycle
from model.release.rules import Refusal, outside
from model.values.private import Qcow2State

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Node

UNFLUSHED = outside(
    "process.unflushed",
    "A program that ends writes down what its nodes keep in caches; the storage daemon of 5.2 does "
    "not.",
    source="5.2; later releases close every node",
    text="what is left of an image file whose tables were in a cache is not modelled",
)
CLOSES_NODES = (6, 0)
"""The release since which the storage daemon closes its nodes before it ends."""

_MOST_ROUNDS = 3
"""A cancelled job that is kept is dismissed; one that waited for another ends after it."""


def shut_down(t: Transition, *, closes: bool = True) -> None:
    """End what is at work on the graph and close every node, as a program does when it ends.

    Image files are what they are then. Of a program that ``closes`` no nodes, it is noted down as
    not modelled where that shows; the files are as if it had. Raises ``NotModelledError``.
    """
    for export in list(t.exports):
        block_export_del(t, {"id": export})
    t.nbd_server = None
    for _ in range(_MOST_ROUNDS):
        for job_id in list(t.jobs):
            _end(t, job_id)
    t.devices.clear()
    for user in list(t.users):
        block_backends.let_go(t, user)
    if not closes and any(_keeps_tables(node) for node in t.nodes.values()):
        t.ev.unmodelled.add(UNFLUSHED.id)
    for name in list(t.nodes):
        if name in t.nodes:
            t.change(name, monitor_owned=False)
            release(t, name)


def _keeps_tables(node: Node) -> bool:
    """Whether a node has something in a cache that is not in its file."""
    return isinstance(node.private, Qcow2State) and node.private.cached


def _end(t: Transition, job_id: str) -> None:
    """Cancel a job for good, or forget it if it has ended."""
    job = t.jobs.get(job_id)
    if job is None:
        return
    try:
        if job.status == "concluded":
            lifecycle.dismiss(t, job)
        else:
            lifecycle.cancel(t, job, force=True)
    except Refusal as refusal:
        # It is about to end on its own.
        t.ev.refused.discard(refusal.rule.id)
