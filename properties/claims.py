# SPDX-License-Identifier: GPL-2.0-or-later
"""What the nodes of a job are to it, read from what its kind remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.graph.driver import driver_of
from model.graph.freezing import NOT_FROZEN
from model.graph.traversal import reaches
from model.jobs import commit, mirror_copy, stream
from model.jobs.lifecycle import OWN_BACKEND
from model.values.state import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.dialect import Dialect
    from model.values.state import BlockState, Job, LinkKey, Node

OVER: Final = frozenset({"concluded"})


def living(state: BlockState) -> Iterator[Job]:
    """The jobs that still hold on to something."""
    return (job for job in state.jobs.values() if job.status not in OVER)


def bottom(node: Node) -> str | None:
    """The node down to which a copy-on-read freezes its chain."""
    return driver_of(node.driver).frozen_to(node)


def claims(state: BlockState) -> Iterator[tuple[str, str, str]]:
    """Who has frozen a chain, its top, and the node down to which it has."""
    for node in state.nodes.values():
        end = bottom(node)
        if end is not None:
            yield f"node {node.name}", node.name, end
    for job in living(state):
        body = job.body
        if isinstance(body, commit.Body):
            yield f"job {job.id}", body.filter, body.base
        elif isinstance(body, stream.Body) and body.frozen:
            yield f"job {job.id}", body.target, body.above
        elif (
            isinstance(body, mirror_copy.Mirror)
            and body.filter in state.nodes
            and reaches(state.nodes, body.filter, body.target)
            and in_chain(state, body.filter, body.target)
        ):
            yield f"job {job.id}", body.filter, body.target


def standing(state: BlockState, dialect: Dialect) -> Iterator[tuple[str, str, str]]:
    """The same, but for a mirror whose target came to lie below its source when it had begun.

    Where that is possible, the links between stay as they were.
    """
    late = (
        {f"job {job.id}" for job in living(state) if job.type == "mirror"}
        if dialect.has(NOT_FROZEN)
        else ()
    )
    for who, top, end in claims(state):
        links = [state.nodes[key[0]].link(key[1]) for key, _ in chain(state, top, end)]
        if who not in late or any(link is not None and link.frozen for link in links):
            yield who, top, end


def in_chain(state: BlockState, top: str, base: str) -> bool:
    """Whether a node is filtered or overlaid by another, directly or not."""
    return any(link[1] == base for link in chain(state, top, None)) or top == base


def chain(state: BlockState, top: str, end: str | None) -> list[tuple[LinkKey, str]]:
    """The links from ``top`` down to ``end``, with the child that each leads to."""
    found: list[tuple[LinkKey, str]] = []
    name = top
    while name != end:
        below = next(
            (x for x in state.nodes[name].children if x.role & (Role.FILTERED | Role.COW)), None
        )
        if below is None:
            break
        found.append((below.key, below.child))
        name = below.child
    return found


def filters(state: BlockState, dialect: Dialect) -> set[str]:
    """The filters that jobs have put into the graph, and that have not gone yet."""
    found = {body.filter for job in living(state) if (body := job.body) and body.filter}
    for job in state.jobs.values():
        if dialect.has(stream.FILTER_STAYS) and isinstance(job.body, stream.Body):
            found.update(node for name, node in state.users[job.user].links if name == "main node")
        if dialect.has(OWN_BACKEND) and job.backend is not None and job.backend in state.users:
            found.update(node for _, node in state.users[job.backend].links)
    return found
