# SPDX-License-Identifier: GPL-2.0-or-later
"""Removing what a trace left in a storage daemon, so that the next one starts from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.commands.harness import DRIVING
from model.values.trace import RATE_LIMITED, WAIT, name_of

from model.commands.devices import UNPLUGGED
from targets.daemon import TIMEOUT, Daemon
from targets.driving import STOP_SERVER, moves_nodes, objects_of
from targets.replay import EXPORTS, NODES, Exchange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from model.values.trace import Command, Reply, Trace

    from targets.deaths import Death

MAKES_USERS = frozenset(
    {
        "block-commit",
        "block-export-add",
        "block-stream",
        "blockdev-backup",
        "blockdev-mirror",
        "device_add",
        "nbd-server-start",
        "x-blockdev-set-iothread",
    }
)
"""Commands after which more than nodes and objects may be left: jobs, exports, a server, devices,
nodes in another thread, whose object must not go before them (7.2 aborts)."""

LEAVES_NODES_AND_OBJECTS = frozenset(
    {
        "block_resize",
        "blockdev-add",
        "blockdev-del",
        "blockdev-reopen",
        "blockdev-snapshot",
        "blockdev-snapshot-sync",
        "change-backing-file",
        "object-add",
        "object-del",
        "qmp_capabilities",
        "qom-get",
        "qom-list",
        "qom-list-properties",
        "qom-list-types",
        "x-blockdev-change",
        "x-blockdev-reopen",
        "x-debug-query-block-graph",
    }
)
"""Commands whose every effect is gone once all nodes and objects are."""

LEAVES_WHAT_CAN_BE_ASKED_FOR = frozenset(
    {
        *MAKES_USERS,
        *DRIVING,
        "block-export-del",
        "block-job-cancel",
        "block-job-complete",
        "block-job-dismiss",
        "block-job-finalize",
        "block-job-pause",
        "block-job-resume",
        "block-job-set-speed",
        "job-cancel",
        "job-complete",
        "job-dismiss",
        "job-finalize",
        "job-pause",
        "job-resume",
        "nbd-server-stop",
    }
)
"""Commands whose every effect is gone once there are no jobs, no exports and no server, either.
After any other command that succeeded (character devices) a fresh process is cheaper, at about
eight milliseconds, than to prove that nothing is left."""

# A device of a machine that is stopped stays, or takes longer to go than a process to start.
_UNDONE = (LEAVES_NODES_AND_OBJECTS | LEAVES_WHAT_CAN_BE_ASKED_FOR) - {"device_add"}

USERS_WITHIN = 1.0
"""Seconds of silence after which a daemon that gets rid of jobs and exports is given up."""

_ASK_FOR_USERS: tuple[Command, ...] = ({"execute": "query-jobs"}, EXPORTS)


_CLOSES_DESCRIPTOR = "No persistent reservation manager with id"


def needs_restart(trace: Trace, replies: Iterable[Reply], events: Iterable[str]) -> bool:
    """Return whether a command did what is not undone by removing all nodes.

    A refused persistent reservation manager is one: the daemon closes its descriptor 0 then,
    whatever file that is by now. Of the names of `events` it is those of which there may be
    another one on its way.
    """
    if not RATE_LIMITED.isdisjoint(events):
        return True
    if objects_of(trace.commands) and _names(trace, "object-del", "id"):
        # It may be one that the daemon was started with.
        return True
    for command, reply in zip(trace.commands, replies, strict=False):
        name = name_of(command)
        known = name in _UNDONE or name.startswith("query-")
        if "return" in reply and not known:
            return True
        if _CLOSES_DESCRIPTOR in reply.get("error", {}).get("desc", ""):
            return True
    return False


def makes_users(trace: Trace) -> bool:
    """Whether a trace may leave more than nodes and objects, which `remove_users` removes."""
    return any(name_of(command) in MAKES_USERS for command in trace.commands)


def removals(trace: Trace) -> tuple[Command, ...]:
    """Return the commands that usually remove all that a trace made, then ask what is left.

    They go by the names that the trace asks for, latest node first and objects last, so they
    need no reply and can be sent along with it. The last one is the query.
    """
    nodes = _names(trace, "blockdev-add", "node-name")
    objects = _names(trace, "object-add", "id")
    return _removals(nodes, objects)


def remove_users(
    daemon: Daemon, trace: Trace, statuses: Mapping[str, str]
) -> tuple[tuple[Command, ...], Exchange]:
    """Send what removes all that a trace made which `makes_users`; return what was sent, too.

    `statuses` are those of the jobs that were heard of.
    """
    alive = [job for job, status in statuses.items() if status not in {"null", UNPLUGGED}]
    commands = [_about("job-cancel", job) for job in alive if statuses[job] != "concluded"]
    for job in alive:
        commands.append({"execute": WAIT, "arguments": {"id": job, "status": "null"}})
        commands.append(_about("job-dismiss", job))
    if any(name_of(command) == "nbd-server-start" for command in trace.commands):
        # All of its exports go with it.
        commands.append(STOP_SERVER)
    nodes = _names(trace, "blockdev-add", "node-name")
    objects = () if moves_nodes(trace.commands) else _names(trace, "object-add", "id")
    sent = (*commands, *_ASK_FOR_USERS, *_removals(nodes, objects))
    return sent, Exchange(daemon, sent, observed=0, patience=USERS_WITHIN, statuses=statuses)


def users_remain(commands: Sequence[Command], replies: Sequence[Reply]) -> bool:
    """Return whether jobs or exports were left when they were asked for."""
    start = commands.index(_ASK_FOR_USERS[0])
    return any(reply != {"return": []} for reply in replies[start : start + len(_ASK_FOR_USERS)])


def _about(execute: str, job: str) -> Command:
    return {"execute": execute, "arguments": {"id": job}}


def remove_rest(
    daemon: Daemon,
    trace: Trace,
    commands: Sequence[Command],
    replies: Sequence[Reply],
    timeout: float = TIMEOUT,
) -> Death | bool:
    """Repeat `removals` until nothing is left; return whether that was reached, or a death.

    `commands` and `replies` are those of the first attempt. Each pass deletes at least the nodes
    that nothing uses any more; without progress it gives up.
    """
    objects = _names(trace, "object-add", "id")
    apart = moves_nodes(trace.commands)
    asked = not apart
    before: list[str] | None = None
    while True:
        names = _remaining(replies[-1])
        if names == [] and asked and not _objects_remain(commands, replies):
            return True
        if names is None or names == before:
            return False
        before = names
        asked = not apart or not names
        # Those that a parent owns are refused and go with the parent.
        owned = [name for name in names if not name.startswith("#")]
        commands = _removals(owned, objects if asked else ())
        exchange = Exchange(daemon, commands, observed=0)
        death = exchange.finish(timeout)
        if death is not None:
            return death
        replies = exchange.replies()


def _names(trace: Trace, execute: str, member: str) -> list[str]:
    """Return the distinct names that commands of one kind give, latest first."""
    names: dict[str, None] = {}
    for command in trace.commands:
        arguments = command.get("arguments")
        if name_of(command) == execute and isinstance(arguments, dict):
            name = arguments.get(member)
            if isinstance(name, str):
                names[name] = None
    return list(reversed(names))


def _removals(nodes: Iterable[str], objects: Iterable[str]) -> tuple[Command, ...]:
    return (
        *({"execute": "blockdev-del", "arguments": {"node-name": name}} for name in nodes),
        *({"execute": "object-del", "arguments": {"id": name}} for name in objects),
        NODES,
    )


def _remaining(reply: Reply) -> list[str] | None:
    """Return the names of the nodes in a query's reply; None if it does not tell them."""
    nodes = reply.get("return")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        return None
    return [str(node.get("node-name")) for node in nodes]


def _objects_remain(commands: Sequence[Command], replies: Sequence[Reply]) -> bool:
    """Return whether an object could not be removed though it exists.

    Refusals share one error class; "not found" is the wording on every release tried, while
    the one for an object in use differs.
    """
    return any(
        command["execute"] == "object-del"
        and "not found" not in reply.get("error", {}).get("desc", "not found")
        for command, reply in zip(commands, replies, strict=True)
    )
