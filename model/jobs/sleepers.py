# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs that sleep for their speed, and the commands that would wake them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from model.graph.job_kind import KINDS
from model.graph.traversal import above, below
from model.jobs.lifecycle import SLEEPS_ON, sleeps
from model.release.rules import outside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.graph.transition import Transition
    from model.values.state import Job

WOKEN = outside(
    "outside.woken",
    "No node of a job is drained while the job sleeps because of its speed limit, before 10.0: "
    "how far that wakes it depends on timing.",
    text="a {type} job that is woken while it sleeps because of its speed limit is not modelled",
)


@contextmanager
def beware_of_sleepers(t: Transition, command: str, arguments: dict[str, Any]) -> Iterator[None]:
    """Leave the spec behind a command that may drain a job which sleeps, and so wakes it.

    Raises ``NotModelledError``, unless the command itself meets a hazard of the release. Which
    commands do was seen: those that change the graph around a node of the job's, a guest's, and
    what is done in a transaction, which drains everything.
    """
    woken = _woken(t, command, arguments)
    try:
        yield
    finally:
        if woken is not None and not t.ev.hazards:
            kind = KINDS[woken.type]
            t.ev.leave(WOKEN, f"{kind.command}.speed", type=kind.type)


def _woken(t: Transition, command: str, arguments: dict[str, Any]) -> Job | None:
    sleepers = [
        job
        for job in t.jobs.values()
        if job.status == "running" and not job.paused and sleeps(job.speed, job.asleep)
    ]
    if not sleepers or command not in _DRAINS or t.ev.holds(SLEEPS_ON):
        return None
    names = set(_named(t, arguments))
    if command in _DRAINS_BELOW:
        names = below(t.nodes, names)
    around = above(t.nodes, names)
    for job in sleepers:
        used = {node for _, node in t.users[job.user].links}
        if command in _DRAINS_ALL or not around.isdisjoint(used):
            return job
    return None


_DRAINS_ALL: Final = frozenset({"blockdev-backup", "blockdev-snapshot"})


_DRAINS_BELOW: Final = frozenset({"blockdev-reopen", "x-blockdev-reopen"})


_DRAINS: Final = frozenset(
    {
        *_DRAINS_ALL,
        *_DRAINS_BELOW,
        *("blockdev-add", "x-blockdev-change", "block-commit", "block-stream", "blockdev-mirror"),
        *("reopencheck-read", "reopencheck-write", "block-export-add", "block_resize"),
        *("x-blockdev-set-iothread", "device_add"),
    }
)


def _named(t: Transition, value: Any) -> Iterator[str]:
    """The nodes that are named anywhere in the arguments of a command."""
    stack = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            stack.extend(each.values())
        elif isinstance(each, list):
            stack.extend(each)
        elif isinstance(each, str) and each in t.nodes:
            yield each
