# SPDX-License-Identifier: GPL-2.0-or-later
"""What a case may contain: nothing that reaches out of the directory in which it is replayed.

A case may come from a stranger and is replayed against real programs. Files lie in the
scratch directory and sockets are files there; no network address is listened on or
connected to. The driving commands are ours, so their members are checked to the last.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from checker.errors import CaseError
from model.commands.driving import OBJECT, READ, WAIT, WRITE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.trace import Command, ImageSpec, Json

OURS = "reopencheck-"
"""What the names of driving commands begin with; no command of QEMU's does."""

MOST_DATA = 64 * 1024 * 1024
"""The most bytes that one write may have, and the data of all images together."""

Amount: TypeAlias = Annotated[int, Meta(ge=0, le=2**62)]
"""An offset or a length in bytes."""
Length: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_DATA)]
"""How many bytes are written."""
Pattern: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
"""The value of the bytes that are written."""
Status: TypeAlias = Literal[
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
]
"""What ``query-jobs`` calls the states of a job; "null": there is no such job."""


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Wait until a job has come to a status, and where it sleeps there, so far."""

    id: str
    status: Status
    progress: Amount | None = None


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Read everything through a node."""

    node: str


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Write through a node."""

    node: str
    offset: Amount
    length: Length
    pattern: Pattern


class Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """Start the daemon with an object; its limits are operations or bytes per second."""

    qom_type: Literal["iothread", "throttle-group"]
    id: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9._-]*$")]
    x_iops_total: Amount | None = None
    x_bps_total: Amount | None = None


DRIVING_ARGUMENTS: dict[str, type[msgspec.Struct]] = {
    WAIT: Wait,
    READ: Read,
    WRITE: Write,
    OBJECT: Object,
}
"""The shape of each driving command's arguments."""

_IMAGE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,200}")
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*:")
# Members whose values are names of nodes, objects, jobs or exports, never opened as files.
_NAME_KEYS = frozenset(
    {
        "base-node",
        "bottom",
        "child",
        "device",
        "driver",
        "execute",
        "filter-node-name",
        "id",
        "iothread",
        "job-id",
        "node",
        "node-name",
        "overlay",
        "parent",
        "replaces",
        "snapshot-node-name",
        "top-node",
    }
)
# Members that say where on a network somebody is, or listens: inet, vsock, iscsi.
_ADDRESS_KEYS = frozenset({"cid", "host", "portal"})
_HARMLESS = frozenset({"/dev/null"})
"""Files outside of the directory that nobody can spoil."""


def check_images(images: Iterable[ImageSpec]) -> None:
    """Raise :class:`CaseError` unless all images are files of the directory, once each."""
    seen: set[str] = set()
    data = 0
    for image in images:
        for name in (image.name, image.backing):
            if name is not None and not _IMAGE_NAME.fullmatch(name):
                raise CaseError(f"the image name {name!r} is not a plain file name")
        if image.name in seen:
            raise CaseError(f"two images are called {image.name!r}")
        seen.add(image.name)
        for offset, length, _pattern in image.data:
            if offset + length > image.size:
                raise CaseError(
                    f"{length} bytes from {offset} do not lie within the image {image.name!r}"
                )
            data += length
    if data > MOST_DATA:
        raise CaseError(f"the images have more than {MOST_DATA >> 20} MiB of data")


def check_command(number: int, command: Command) -> None:
    """Raise :class:`CaseError` unless a command, of step ``number``, stays inside."""
    execute = command.get("execute")
    if isinstance(execute, str) and execute.startswith(OURS):
        _check_driving(number, execute, command)
        return
    for key, value in _members(command):
        if isinstance(value, str) and key not in _NAME_KEYS and _leaves_scratch(value):
            raise CaseError(f"step {number} names the file {value!r} outside its directory")
        if key in _ADDRESS_KEYS and value is not None:
            raise CaseError(f"step {number} names a network address: {key} {value!r}")
        if key == "abstract" and value is True:
            raise CaseError(f"step {number} names a socket that is no file")


def _check_driving(number: int, execute: str, command: Command) -> None:
    shape = DRIVING_ARGUMENTS.get(execute)
    if shape is None:
        there_are = ", ".join(DRIVING_ARGUMENTS)
        raise CaseError(f"step {number}: no driving command is called {execute!r}: {there_are}")
    if command.keys() != {"execute", "arguments"}:
        raise CaseError(f"step {number}: {execute} has its arguments and nothing else")
    try:
        msgspec.convert(command["arguments"], shape)
    except msgspec.ValidationError as error:
        raise CaseError(f"step {number}: {execute}: {error}") from None


def _members(value: Json, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every scalar in a JSON value with the member that holds it (list items: their list's)."""
    if isinstance(value, list):
        for item in value:
            yield from _members(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _members(item, name.rsplit(".", 1)[-1])
    else:
        yield key, value


def _leaves_scratch(text: str) -> bool:
    """Whether a file name leads out of the directory that the daemon runs in."""
    if text.startswith("json:"):
        try:
            inner = json.loads(text[len("json:") :])
        except ValueError:
            return False
        return any(_reaches_out(key, value) for key, value in _members(inner))
    prefix = _PROTOCOL.match(text)
    if prefix:
        text = text[prefix.end() :]
        if text.startswith("//"):  # an address on the network, or file:///path
            return True
    return (text not in _HARMLESS and text.startswith(("/", "~"))) or ".." in text.split("/")


def _reaches_out(key: str, value: Any) -> bool:
    """Whether a member of a ``json:`` name leads out of the directory, or to a network."""
    if key in _ADDRESS_KEYS:
        return value is not None
    return isinstance(value, str) and key not in _NAME_KEYS and _leaves_scratch(value)
