# SPDX-License-Identifier: GPL-2.0-or-later
"""What is replayed: image files and QMP commands, and what was seen of each step.

These values are plain data on purpose. A trace is finished before any process
sees it, and the same trace drives the model and every real target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

Json: TypeAlias = Any
"""A decoded JSON value. QMP is untyped at this boundary; the schema types it."""

Command: TypeAlias = dict[str, Any]
"""One QMP command: ``{"execute": str, "arguments": {...}}``."""

Reply: TypeAlias = dict[str, Any]
"""``{"return": ...}`` or ``{"error": {"class": str, "desc": str}}``."""


@attrs.frozen
class ImageSpec:
    """An image file to create before the first command.

    ``size`` is in bytes. ``name`` and ``backing`` are file names relative to the
    directory that the target runs in. ``data`` are runs ``(offset, length, pattern)`` of bytes that
    are written to the virtual disk one after the other.
    """

    name: str
    format: str
    size: int
    backing: str | None = None
    backing_format: str | None = None
    data: tuple[tuple[int, int, int], ...] = ()


@attrs.frozen
class Trace:
    """Image files and the commands to send, in order."""

    images: tuple[ImageSpec, ...]
    commands: tuple[Command, ...]


@attrs.frozen
class Observation:
    """What one step showed: the reply, the events that came with it, the graph after it.

    ``jobs`` is the return value of ``query-block-jobs`` and ``exports`` that of
    ``query-block-exports``; they are asked for only in traces that have any.
    ``nodes`` is the return value of ``query-named-block-nodes`` (flat) and
    ``graph`` that of ``x-debug-query-block-graph``; both are None where the
    target could not be asked any more.
    """

    reply: Reply
    nodes: list[dict[str, Json]] | None
    graph: dict[str, Json] | None
    events: tuple[dict[str, Json], ...] = ()
    jobs: list[dict[str, Json]] | None = None
    exports: list[dict[str, Json]] | None = None


def name_of(command: Command) -> str:
    """What a command executes; empty where what stands there is no name (a stranger's trace)."""
    name = command.get("execute")
    return name if isinstance(name, str) else ""


RATE_LIMITED = frozenset({"QUORUM_FAILURE", "QUORUM_REPORT_BAD"})
"""The events of which QEMU sends one a second about each node, and the last of the others late."""

REOPENS = ("blockdev-reopen", "x-blockdev-reopen")
"""What the command is called that reopens nodes: a list of them, or before 6.1 one."""


def reopened(command: Command) -> list[dict[str, Any]]:
    """The options of each node that one of :data:`REOPENS` names, in its order."""
    arguments = command["arguments"]
    found: list[dict[str, Any]] = (
        arguments["options"] if command["execute"] == REOPENS[0] else [arguments]
    )
    return found


_MAKES_JOBS = frozenset({"block-commit", "block-stream", "blockdev-backup", "blockdev-mirror"})
_MAKES_EXPORTS = frozenset({"block-export-add"})


def asks_for_users(commands: Iterable[Command]) -> tuple[bool, bool]:
    """Whether the jobs and whether the exports are asked for after each command of a trace.

    They are if one of the commands makes any: a query costs as much as a small command.
    """
    names = {name_of(command) for command in commands}
    return not names.isdisjoint(_MAKES_JOBS), not names.isdisjoint(_MAKES_EXPORTS)


WAIT = "reopencheck-wait"


READ = "reopencheck-read"


WRITE = "reopencheck-write"


OBJECT = "reopencheck-object"


def waits(settling: dict[str, tuple[str, int | None]]) -> list[dict[str, Any]]:
    """The commands that wait for what :attr:`model.Outcome.settling` says."""
    commands = []
    for job_id, (status, progress) in settling.items():
        arguments: dict[str, Any] = {"id": job_id, "status": status}
        if progress is not None:
            arguments["progress"] = progress
        commands.append({"execute": WAIT, "arguments": arguments})
    return commands
