# SPDX-License-Identifier: GPL-2.0-or-later
"""What our own commands in a trace mean for a real daemon: waiting, reading and writing.

In a trace that moves nodes to other threads (`moves_nodes`) QEMU's own commands need care, too:
a drain pauses the jobs there, and they go on by themselves only after the reply.

Each is a generator that knows nothing of sockets and clocks: it yields a QMP command to send,
or None, and is sent each message that comes then, events included. What it returns is the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from model.commands.harness import NOT_REACHED
from model.commands.plugging import PERIPHERAL
from model.release.rules import NOT_MODELLED
from model.values.trace import OBJECT, READ, WAIT, WRITE, name_of
from targets.errors import TargetError
from targets.wire.nbd import MOST_BYTES, Disk, NBDError, OutOfPatienceError, connected

if TYPE_CHECKING:
    from model.values.trace import Command, Reply
    from targets.daemons.daemon import OwnServer

Message: TypeAlias = dict[str, Any]
Work: TypeAlias = Generator["Command | None", Message, "Reply"]

EXPORT = "reopencheck"
"""The export through which a node is read and written, and its name."""

DELETED = "BLOCK_EXPORT_DELETED"

_GONE = "null"
_PAUSED = frozenset({"paused", "standby"})
_RESUMING = "resuming"
"""Our own: the job was told to, and has not said so yet."""
_HELD = _PAUSED | {_RESUMING}
_PAUSES = {"job-pause": "id", "block-job-pause": "device"}
_RESUMES = {"job-resume": "id", "block-job-resume": "device"}
_GOES_ON = {**_RESUMES, "job-cancel": "id", "block-job-cancel": "device"}
_MOVES = frozenset({"block-export-add", "device_add", "x-blockdev-set-iothread"})
GUESTS_WITHIN = 12.0
"""Seconds that all the guests of a trace may wait together for their disks."""
_QUERY_JOBS: Command = {"execute": "query-jobs"}
STOP_SERVER: Command = {"execute": "nbd-server-stop"}


class OutOfTimeError(Exception):
    """Thrown into a command that has waited for long enough."""


@attrs.define
class Guests:
    """The guests of a trace: ``read`` bytes so far, and ``left`` seconds that they may wait."""

    read: int = 0
    left: float = GUESTS_WITHIN

    @property
    def waited(self) -> float:
        """Seconds that they have waited so far."""
        return GUESTS_WITHIN - self.left


@attrs.frozen
class Surroundings:
    """What a command finds: the last status of each job, and the NBD servers.

    ``paused`` are the jobs that the trace has paused. ``server`` is the path of the socket of a
    server that the trace has started, or None. Then ``own`` is the one to use, which goes on
    running if the trace has none (``keep``). ``stuck`` are the jobs that were waited for once to go
    on by themselves, in vain, and of which nothing was heard since. ``failed`` are those that an
    error has stopped, and that nobody has told to go on.
    """

    statuses: dict[str, str]
    own: OwnServer
    paused: frozenset[str] = frozenset()
    keep: bool = True
    server: str | None = None
    stuck: set[str] = attrs.Factory(set)
    failed: set[str] = attrs.Factory(set)
    guests: Guests = attrs.Factory(Guests)


def is_own(command: Command) -> bool:
    """Whether a command is one of ours, which no daemon knows."""
    return name_of(command) in _OWN


def objects_of(commands: Iterable[Command]) -> tuple[str, ...]:
    """The words of a command line that make the objects which a trace has from the start.

    Raises TargetError where such a command does not say what is to be made.
    """
    words: list[str] = []
    for command in commands:
        if name_of(command) == OBJECT:
            arguments = dict(_arguments(command))
            kind = arguments.pop("qom-type", None)
            if not isinstance(kind, str) or not isinstance(arguments.get("id"), str):
                raise TargetError(f"{OBJECT} needs a qom-type and an id, and has {arguments!r:.80}")
            told = [kind, *(f"{key}={value}" for key, value in arguments.items())]
            # A comma within a word is written twice.
            words += ["--object", ",".join(each.replace(",", ",,") for each in told)]
    return tuple(words)


def moves_nodes(commands: Iterable[Command]) -> bool:
    """Whether nodes may come to be in the thread of an object."""
    return any(
        name_of(command) in _MOVES and "iothread" in _arguments(command) for command in commands
    )


def paused_by(command: Command, paused: frozenset[str]) -> frozenset[str]:
    """The jobs that a client has paused, after one more command that was accepted."""
    name = name_of(command)
    arguments = _arguments(command)
    if name in _PAUSES:
        return paused | {str(arguments.get(_PAUSES[name]))}
    return paused - {str(arguments.get(_GOES_ON[name]))} if name in _GOES_ON else paused


def _arguments(command: Command) -> dict[str, Any]:
    """The arguments of a command, none where they are no object."""
    arguments = command.get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def resumed_by(command: Command) -> str | None:
    """The job that a command tells to go on, if it is accepted."""
    job = _arguments(command).get(_RESUMES.get(name_of(command), ""))
    return job if isinstance(job, str) else None


def send(command: Command) -> Work:
    """Send one of QEMU's own commands and return its reply."""
    message: Message = {"event": None}
    request: Command | None = command
    while "event" in message:
        # Whether it takes too long to be answered is not decided here.
        with suppress(OutOfTimeError):
            message = yield request
        request = None
    return message


def until_drains_end(work: Work, command: Command, place: Surroundings) -> Work:
    """Carry out a command, and wait until no job is paused by a drain any more.

    A job that was told to go on has then been heard of: it may be paused again by then.
    """
    resumed = resumed_by(command)
    status = place.statuses.get(resumed or "", _GONE)
    failed = place.failed & {resumed}
    if resumed is not None and status in _PAUSED:
        place.statuses[resumed] = _RESUMING
        place.stuck.discard(resumed)
        place.failed.difference_update(failed)
    reply = yield from work
    if "return" in reply:
        paused = paused_by(command, place.paused)
    else:
        paused = place.paused
        place.failed.update(failed)
        if resumed is not None and place.statuses.get(resumed) == _RESUMING:
            place.statuses[resumed] = status

    def drained() -> set[str]:
        held = {job for job, status in place.statuses.items() if status in _HELD}
        return held - paused - place.stuck - place.failed

    try:
        while drained():
            yield None
    except OutOfTimeError:
        # It was no drain: such a job waits for another one.
        place.stuck.update(drained())
        if resumed in place.stuck and place.statuses[resumed] == _RESUMING:
            place.statuses[resumed] = status
    return reply


def begin(command: Command, place: Surroundings) -> Work:
    """Carry out one of our own commands."""
    arguments = command.get("arguments", {})
    try:
        return (yield from _OWN[command["execute"]](arguments, place))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return _not_modelled(f"{command['execute']} cannot be carried out: {error!r:.200}")


def _refusal(text: str) -> Reply:
    return {"error": {"class": "GenericError", "desc": text}}


def _not_modelled(text: str) -> Reply:
    """An answer of reopencheck's own, which is nothing that QEMU does."""
    return {"error": {"class": NOT_MODELLED, "desc": f"reopencheck: {text}"}}


def _ask(command: Command) -> Generator[Command | None, Message, Reply]:
    """Send a command and return its reply, whatever else comes first."""
    message = yield command
    while "event" in message:
        message = yield None
    return message


def _wait(arguments: dict[str, Any], place: Surroundings) -> Work:
    job, wanted = arguments["id"], arguments["status"]
    progress = arguments.get("progress")
    if isinstance(job, str) and job.startswith(PERIPHERAL):
        return (yield from _wait_for_device(job, wanted, place))
    try:
        reached = yield from _reach(job, wanted, place.statuses)
        while reached and progress is not None and (yield from _progress(job)) < progress:
            reached = place.statuses.get(job, _GONE) == wanted
    except OutOfTimeError:
        # One that still answers does not hang: then the job just goes another way.
        yield from _ask(_QUERY_JOBS)
        reached = False
    if reached:
        return {"return": {"status": wanted}}
    got = place.statuses.get(job, _GONE)
    return _refusal(NOT_REACHED.text.format(id=job, status=wanted, got=got))


def _wait_for_device(path: str, wanted: str, place: Surroundings) -> Work:
    """Wait until a device is gone: its last user lets it go a while after the reply."""
    try:
        while place.statuses.get(path) != wanted:
            yield None
    except OutOfTimeError:
        yield from _ask(_QUERY_JOBS)
    # The next device at this place is another one.
    got = place.statuses.pop(path, "plugged")
    if got == wanted:
        return {"return": {"status": wanted}}
    return _refusal(NOT_REACHED.text.format(id=path, status=wanted, got=got))


def _reach(
    job: str, wanted: str, statuses: dict[str, str]
) -> Generator[Command | None, Message, bool]:
    """Wait for the status; False as soon as it cannot come any more."""
    while True:
        status = statuses.get(job, _GONE)
        if status in {wanted, _GONE}:
            return status == wanted
        if status == "concluded":
            # Being dismissed may follow at once, and is heard of before this is answered.
            yield from _ask(_QUERY_JOBS)
            return statuses.get(job, _GONE) == wanted
        yield None


def _progress(job: str) -> Generator[Command | None, Message, int]:
    reply = yield from _ask(_QUERY_JOBS)
    found = [each["current-progress"] for each in reply["return"] if each["id"] == job]
    return found[0] if found else -1


def _have_object(_arguments: dict[str, Any], _place: Surroundings) -> Work:
    # The daemon was started with it.
    yield from ()
    return {"return": {}}


def _read(arguments: dict[str, Any], place: Surroundings) -> Work:
    def use(disk: Disk) -> Reply:
        place.guests.read += disk.size
        if place.guests.read > MOST_BYTES:
            return _not_modelled(f"no more than {MOST_BYTES} bytes are read in a trace")
        return {"return": disk.runs()}

    return (yield from _through_export(arguments["node"], place, use, writable=False))


def _write(arguments: dict[str, Any], place: Surroundings) -> Work:
    offset, length, pattern = (arguments[name] for name in ("offset", "length", "pattern"))

    def use(disk: Disk) -> Reply:
        disk.write(offset, length, pattern)
        return {"return": {}}

    return (yield from _through_export(arguments["node"], place, use, writable=True))


def _through_export(
    node: str, place: Surroundings, use: Callable[[Disk], Reply], *, writable: bool
) -> Work:
    """Export a node, use it as a guest does, and take everything back."""
    if place.guests.left <= 0:
        return _out_of_patience()
    if place.server is None and not place.own.running:
        address = {"type": "unix", "data": {"path": place.own.address}}
        reply = yield from _ask({"execute": "nbd-server-start", "arguments": {"addr": address}})
        if "error" in reply:
            return reply
        place.own.running = True
    reply = yield from _exported(node, place, use, writable=writable)
    if place.own.running and not place.keep:
        yield from _ask(STOP_SERVER)
        place.own.running = False
    return reply


def _exported(
    node: str, place: Surroundings, use: Callable[[Disk], Reply], *, writable: bool
) -> Work:
    options = {"type": "nbd", "id": EXPORT, "node-name": node, "name": EXPORT, "writable": writable}
    reply = yield from _ask({"execute": "block-export-add", "arguments": options})
    if "error" in reply:
        return reply
    with ExitStack() as connection:
        try:
            address = place.server or place.own.address
            disk = connection.enter_context(Disk(connected(address), EXPORT, place.guests.left))
            # A disk that does not come up has waited for an answer that did not come, not for many.
            connection.callback(_charge, place.guests, disk)
            reply = use(disk)
        except OutOfPatienceError:
            reply = _out_of_patience()
        except NBDError as error:
            reply = _refusal(str(error))
        # The connection is left to the server to close: a client that goes by itself while the
        # node is in an iothread makes 7.2.22 abort.
        yield from _deleted()
    return reply


def _charge(guests: Guests, disk: Disk) -> None:
    guests.left = max(0.0, disk.left)


def _out_of_patience() -> Reply:
    return _not_modelled(f"guests wait no longer than {GUESTS_WITHIN:.0f} s in all of a trace")


def _deleted() -> Generator[Command | None, Message, None]:
    """Delete our export, and wait until it is gone."""
    deletion = {"id": EXPORT, "mode": "hard"}
    message = yield {"execute": "block-export-del", "arguments": deletion}
    # The reply and the event come in either order.
    replied = gone = False
    while True:
        if "event" not in message:
            replied, gone = True, gone or "error" in message
        elif message["event"] == DELETED and message.get("data", {}).get("id") == EXPORT:
            gone = True
        if replied and gone:
            return
        message = yield None


_OWN: dict[str, Callable[[dict[str, Any], Surroundings], Work]] = {
    WAIT: _wait,
    READ: _read,
    WRITE: _write,
    OBJECT: _have_object,
}
