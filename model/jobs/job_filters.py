# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking the filters of jobs away again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.edits.links import release
from model.graph import aio_contexts
from model.graph.traversal import primary_child
from model.operations import chain_edits
from model.release.rules import Refusal, hazard

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.graph.transition import Transition

STUCK = hazard(
    "hazard.filter-stuck",
    "A job that ends cannot take its filter away: a link to it is frozen, or its users do not "
    "agree with those of the node below.",
    source="7.2 does not expect that and ends with an unexpected error",
)
ORPHANED_FILTER = hazard(
    "hazard.orphaned-filter",
    "A stream job, or before 6.0 a backup, ends that a client has still to dismiss.",
    source="5.2 and 7.2: the job holds on to its filter, which has no child any more; the next "
    "query of the nodes ends with a segmentation fault",
)
INSERTED_IN_IOTHREAD = hazard(
    "hazard.inserted-in-iothread",
    "A stream or backup job is to put its filter above a node in an iothread.",
    source="10.0 and 11.1 end with an assertion in bdrv_insert_node, though they might refuse it",
)


def beware_of_iothread(t: Transition, above: str) -> None:
    """Notice that a filter is about to be put ``above`` a node."""
    if t.nodes[above].context != aio_contexts.MAIN:
        t.ev.meet(INSERTED_IN_IOTHREAD)


def step_aside(t: Transition, name: str) -> None:
    """Let the users of a filter go over to what it filters; it goes unless somebody keeps it."""
    _insist(t, lambda: chain_edits.replace(t, name, primary_child(t, name)))
    release(t, name)


def drop(t: Transition, name: str) -> None:
    """The same, and the filter loses what it filters."""
    _insist(t, lambda: chain_edits.drop_filter(t, name))
    release(t, name)


def _insist(t: Transition, step: Callable[[], None]) -> None:
    try:
        step()
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        t.ev.meet(STUCK)
