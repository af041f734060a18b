# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: what a trace may hold before it reaches a real program.

A trace may come from a stranger, and is replayed against real programs, perhaps by root. So it may
hold what :mod:`targets.gate.allowed` lists, and nothing else: files and sockets lie in the scratch
directory, no other program is started, and no command takes much of the host's memory, disk,
threads or time. :func:`check_trace` is asked before every run on a real target, and by all who read
traces. ``docs/containment.md`` is made of the same tables.

The gate looks at what is written, not at what a program makes of it. The walls of the system stand
behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from model.jobs.lifecycle import Status
from model.values.trace import OBJECT, READ, WAIT, WRITE
from targets.errors import ContainmentError
from targets.gate.allowed import COMMANDS
from targets.gate.allowed import OBJECT as OBJECT_TABLE
from targets.gate.block_options import SEE
from targets.gate.graph_work import check_work
from targets.gate.image_headers import check_pieces
from targets.gate.kinds import Refused, check_members, nobodys, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.values.trace import Command, ImageSpec, Json, Trace

OURS = "reopencheck-"
"""What the names of driving commands begin with; no command of QEMU's does."""

MOST_DATA = 64 * 1024 * 1024
"""The most bytes that one write may have, and the data of all images together."""
MOST_IMAGES = 100
"""Image files of one trace."""
MOST_RUNS = 4096
"""Runs of data in all images together."""
LARGEST_IMAGE = 1 << 50
"""The virtual size of an image in bytes."""
MOST_MAKING = 1500
"""The work of making all images: one is some 12 ms, or 50 ms on a machine that is busy."""
_A_RUN_OF_A_PROGRAM = 4
_MIB = 1 << 20
_HAS_A_MIB_OF_TABLES = 1 << 46
"""The virtual size of a qcow2 image whose first table, 8 bytes for each 512 MiB, takes a MiB."""
FORMATS = ("qcow2", "raw")
"""Formats of images, and of what they say of their backing files."""
MOST_COMMANDS = 5000
"""Commands of one trace."""
MOST_NODES = 2000
"""Objects in the arguments of all commands that add nodes: nodes, and a few options."""
MOST_OBJECTS = 500
"""Commands of one trace that make objects or devices."""
MOST_VALUES = 5000
"""Values in one command, those inside of others included."""
DEEPEST = 100
"""Levels of objects and lists in one command."""
LONGEST = 64 * 1024
"""Characters of one string."""

Amount: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
"""An offset or a length in bytes."""
Length: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_DATA)]
"""How many bytes are written."""
Pattern: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
"""The value of the bytes that are written."""
Awaited: TypeAlias = Literal[Status, "unplugged"]
"""What may be waited for: a state of a job, or that a device is gone."""


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Wait until a job has come to a status, and where it sleeps there, so far."""

    id: str
    status: Awaited
    progress: Amount | None = None


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Read everything through a node."""

    node: str


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Write through a node."""

    node: str
    offset: Amount
    length: Annotated[int, Meta(ge=0, le=MOST_DATA)]
    pattern: Pattern


class Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Start the daemon with an object; its limits are operations or bytes per second.

    All of it becomes words of a command line, where a comma would begin another property.
    """

    qom_type: Literal["iothread", "secret", "throttle-group"]
    id: Annotated[str, Meta(pattern=r"\A[A-Za-z][A-Za-z0-9._-]{0,63}\Z")]
    x_iops_total: Amount | UnsetType = UNSET
    x_bps_total: Amount | UnsetType = UNSET
    data: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]{1,64}\Z")] | UnsetType = UNSET


DRIVING_ARGUMENTS: dict[str, type[msgspec.Struct]] = {
    WAIT: Wait,
    READ: Read,
    WRITE: Write,
    OBJECT: Object,
}
"""The shape of each driving command's arguments."""

_IMAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_ENVELOPE = frozenset({"execute", "arguments", "id"})
_NEVER_AROUND = frozenset({"control", "exec-oob"})
_ADDS_NODES = frozenset({"blockdev-add"})
_ADDS_OBJECTS = frozenset({"device_add", "object-add", OBJECT})


def check_trace(trace: Trace) -> None:
    """Raise :class:`ContainmentError` unless all of a trace may reach a real program."""
    check_images(trace.images)
    check_commands(trace.commands)
    try:
        check_pieces(trace)
        check_work(trace)
    except Refused as refusal:
        raise ContainmentError(refusal.text) from None


def check_images(images: Sequence[ImageSpec]) -> None:
    """Raise :class:`ContainmentError` unless all images are files of the directory, once each."""
    if len(images) > MOST_IMAGES:
        raise ContainmentError(f"{len(images)} images are too many: use {MOST_IMAGES} or fewer")
    seen: set[str] = set()
    data = runs = making = 0
    for image in images:
        _check_image(image)
        if image.name in seen:
            raise ContainmentError(f"two images are called {image.name!r}: rename one")
        seen.add(image.name)
        data += sum(length for _, length, _ in image.data)
        runs += len(image.data)
        making += _making(image)
    if data > MOST_DATA:
        raise ContainmentError(f"the images have more than {MOST_DATA >> 20} MiB of data")
    if runs > MOST_RUNS:
        raise ContainmentError(f"the images have more than {MOST_RUNS} runs of data")
    if making > MOST_MAKING:
        raise ContainmentError(
            f"making the images is {making} units of work, and {MOST_MAKING} are granted: "
            "use fewer or smaller ones, or less data"
        )


def _making(image: ImageSpec) -> int:
    """What it takes to make an image: programs to run, tables and data to write."""
    work = _A_RUN_OF_A_PROGRAM
    if image.format == "qcow2":
        work += image.size // _HAS_A_MIB_OF_TABLES
    if image.data:
        work += _A_RUN_OF_A_PROGRAM + len(image.data)
        work += sum(length for _, length, _ in image.data) // _MIB
    return work


def _check_image(image: ImageSpec) -> None:
    for name in (image.name, image.backing):
        if name is not None and not _IMAGE_NAME.fullmatch(name):
            raise ContainmentError(
                f"the image name {shown(name)} is not a plain file name in the scratch directory: "
                "begin with a letter, digit or '_', go on with these, '.', '+' and '-', at most "
                "200 in all"
            )
    for kind in (image.format, image.backing_format):
        if kind is not None and kind not in FORMATS:
            raise ContainmentError(
                f"image {image.name!r}: the format {shown(kind)} is not one of {', '.join(FORMATS)}"
            )
    if not 0 <= image.size <= LARGEST_IMAGE:
        raise ContainmentError(
            f"image {image.name!r}: the size {image.size} is not in 0..{LARGEST_IMAGE}"
        )
    for offset, length, pattern in image.data:
        if offset < 0 or length < 1 or offset + length > image.size:
            raise ContainmentError(
                f"{length} bytes from {offset} do not lie within the image {image.name!r}"
            )
        if not 0 <= pattern <= 255:  # noqa: PLR2004  # a byte
            raise ContainmentError(
                f"image {image.name!r}: the pattern {pattern} is not a byte (0 to 255)"
            )


def check_commands(commands: Sequence[Command]) -> None:
    """Raise :class:`ContainmentError` unless all commands of a trace stay inside, and are few."""
    if len(commands) > MOST_COMMANDS:
        raise ContainmentError(f"{len(commands)} steps are too many: use {MOST_COMMANDS} or fewer")
    nodes = objects = 0
    for number, command in enumerate(commands, 1):
        inside = check_command(number, command)
        execute = command.get("execute")
        if not isinstance(execute, str):
            continue
        if execute in _ADDS_NODES:
            nodes += inside
        elif execute in _ADDS_OBJECTS:
            objects += 1
        if nodes > MOST_NODES:
            raise ContainmentError(f"step {number}: there are more than {MOST_NODES} nodes by now")
        if objects > MOST_OBJECTS:
            raise ContainmentError(
                f"step {number}: there are more than {MOST_OBJECTS} objects and devices by now"
            )


def check_command(number: int, command: Command) -> int:
    """Raise :class:`ContainmentError` unless a command, of step ``number``, stays inside.

    Returns how many JSON objects its arguments are made of.
    """
    execute = command.get("execute")
    try:
        inside = _measure(command)
        if isinstance(execute, str) and execute.startswith(OURS):
            _check_driving(execute, command)
        else:
            _check_envelope(command)
            _check_arguments(execute, command.get("arguments"))
    except Refused as refusal:
        words = [
            f"step {number}",
            shown(execute)[1:-1] if isinstance(execute, str) else "",
            refusal.place,
        ]
        words.append(refusal.text)
        raise ContainmentError(": ".join(word for word in words if word)) from None
    return inside - 1


def _measure(command: Command) -> int:
    """Refuse a command that is too deep or too large; return how many JSON objects it has."""
    level: list[Json] = [command]
    values = objects = depth = 0
    while level:
        below: list[Json] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                objects += 1
                below += value.values()
            elif kind is list:
                below += value
            elif kind is str and len(value) > LONGEST:
                raise Refused(f"a string is longer than {LONGEST} characters")
        depth += 1
        values += len(below)
        if values > MOST_VALUES:
            raise Refused(f"there are more than {MOST_VALUES} values in it: use several commands")
        if depth > DEEPEST:
            raise Refused(f"it is nested more than {DEEPEST} deep: use several commands")
        level = below
    return objects


def _check_driving(execute: str, command: Command) -> None:
    shape = DRIVING_ARGUMENTS.get(execute)
    if shape is None:
        there_are = ", ".join(DRIVING_ARGUMENTS)
        raise Refused(f"no driving command is called {shown(execute)}: {there_are}")
    if command.keys() != {"execute", "arguments"}:
        raise Refused(f"{execute} has its arguments and nothing else")
    arguments: dict[str, Any] = command["arguments"]
    try:
        msgspec.convert(arguments, shape)
    except msgspec.ValidationError as error:
        # The text names members as they stand in the trace, whatever characters they have.
        raise Refused(ascii(str(error))[1:-1]) from None
    except UnicodeEncodeError:
        raise Refused("a lone surrogate stands where none may") from None
    if execute == OBJECT:
        if arguments["id"] == "type":
            raise Refused("no daemon starts with an object that is called 'type': rename it")
        check_members(arguments, OBJECT_TABLE, (), strict=False)


def _check_envelope(command: Command) -> None:
    """Check what stands around a command; QEMU refuses all but its name, arguments and id."""
    if not command.keys() <= _ENVELOPE:
        around = {name: value for name, value in command.items() if name not in _ENVELOPE}
        check_members(around, {}, _NEVER_AROUND, strict=False)


def _check_arguments(execute: Json, arguments: Json) -> None:
    if isinstance(execute, str):
        allowed = COMMANDS.get(execute)
        if allowed is None and not nobodys(execute):
            raise Refused(f"this command is not one that a trace may use: {SEE}")
        members, refused = (allowed.members, allowed.refused) if allowed else ({}, ())
    else:
        members, refused = {}, ()
    if isinstance(arguments, dict):
        check_members(arguments, members, refused, strict=False)
    elif arguments is not None:
        check_members({"arguments": arguments}, {}, (), strict=False)
