# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody writes an image header byte by byte: headers name files, and QEMU opens them.

The bytes of a trace come in runs of one value, written to raw images beforehand and by guests. As
long as all runs are whole sectors, no two different bytes of a header can be put next to each
other. So a trace has either

* whole sectors only, and windows (``offset`` of raw) that begin at sectors; or
* windows that begin all of them as many bytes behind a sector, and no byte of choice that is part
  of a name which leads out: neither "/" nor ":". A job that copies through such a window moves
  bytes by so many, and the next job again: many small jobs can write any header. A header that
  names a file of the directory does no harm; or
* runs that begin or end at a few places within sectors, and no such window. (A header of qcow,
  qcow2 or qed that names a file has more than ten places at which one value ends. The end of a
  file, of a window and of a new length counts as such a place: zeroes follow.) Where a guest or a
  job could bring such runs into a qcow2 image, nobody gets at its bytes but through qcow2: its
  file is described with the qcow2 node, nothing else names it, and no other image is made one.

What is written to a qcow2 image beforehand goes through qcow2, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.values.trace import WRITE, name_of
from targets.gate.json_names import PREFIX, parse
from targets.gate.kinds import Refused, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.values.trace import Command, Json, Trace

SECTOR = 512
"""Bytes of what is called a sector here; QEMU's own."""
MOST_PLACES = 8
"""Places within sectors at which the runs of a trace may begin or end."""

LEADS_OUT = frozenset(b"/:")
"""Bytes of which each name has one that is not of a file in the directory."""

_BRINGS_BYTES = frozenset(
    {"block-commit", "block-stream", "blockdev-backup", "blockdev-mirror", WRITE}
)
_SHOWS_NODES = frozenset({"blockdev-add", "blockdev-reopen", "x-blockdev-reopen"})


def check_pieces(trace: Trace) -> None:
    """Raise :class:`Refused` if runs of bytes could be put together to a header."""
    windows = _windows(trace.commands)
    if len(windows) > 1:
        raise Refused("windows (offset) begin within sectors at two places: use one of them only")
    ragged = set(_ends(trace)) - {0}
    if windows and not ragged:
        _check_bytes(trace)
    if not ragged:
        return
    if windows:
        raise Refused(
            f"runs of bytes end within sectors of {SECTOR} bytes, and a window (offset) begins in "
            "one: use whole sectors"
        )
    if len(ragged | set(_cuts(trace)) - {0}) > MOST_PLACES:
        raise Refused(
            f"runs of bytes begin or end at more than {MOST_PLACES} places within sectors of "
            f"{SECTOR} bytes: use whole sectors"
        )
    if any(_brings_bytes(command) for command in trace.commands):
        _check_below_qcow2(trace)


def _brings_bytes(command: Command) -> bool:
    """Whether a command writes bytes of the trace's choice to a node."""
    execute = name_of(command)
    return isinstance(execute, str) and execute in _BRINGS_BYTES


def _check_bytes(trace: Trace) -> None:
    """Refuse bytes of choice of which a name that leads out could be put together."""
    if not any(_brings_bytes(command) for command in trace.commands):
        return
    why = "a window (offset) begins within a sector, so {} may not have the byte {}: use another"
    for image in trace.images:
        own = {pattern for _, _, pattern in image.data}
        if image.format == "qcow2":
            own |= set(image.size.to_bytes(8, "big"))
        for byte in sorted(own & LEADS_OUT):
            raise Refused(f"image {image.name!r}: " + why.format("its size and data", byte))
    for number, command in enumerate(trace.commands, 1):
        arguments = command.get("arguments")
        if not isinstance(arguments, dict):
            continue
        pattern, name = arguments.get("pattern"), arguments.get("backing-file")
        if name_of(command) == WRITE and pattern in LEADS_OUT:
            raise Refused(f"step {number}: " + why.format("what is written", pattern))
        if isinstance(name, str) and not LEADS_OUT.isdisjoint(name.encode(errors="replace")):
            byte = min(LEADS_OUT & set(name.encode(errors="replace")))
            raise Refused(f"step {number}: " + why.format("a name for a header", byte))


def _check_below_qcow2(trace: Trace) -> None:
    """Refuse another use of a qcow2 image's bytes than that of a qcow2 node."""
    formatted = {image.name for image in trace.images if image.format == "qcow2"}
    below: set[str] = set()
    named: dict[str, int] = {}
    for number, command in enumerate(trace.commands, 1):
        if name_of(command) == "blockdev-create":
            raise Refused(
                f"step {number}: blockdev-create: runs of bytes end within sectors, so no image "
                "may be made: use whole sectors"
            )
        for name in _names(command.get("arguments"), formatted, below):
            if name.lstrip("./") in formatted:
                raise Refused(
                    f"step {number}: runs of bytes end within sectors, so {shown(name)} may be "
                    "opened as the file of a qcow2 node only: use whole sectors"
                )
            named.setdefault(name, number)
    for name in sorted(below & named.keys()):
        raise Refused(
            f"step {named[name]}: runs of bytes end within sectors, so {shown(name)}, the file of "
            "a qcow2 node, may not be used otherwise: use whole sectors"
        )


def _names(value: Json, formatted: set[str], below: set[str]) -> Iterator[str]:
    """All strings but those that describe the files of qcow2 nodes; add their names to `below`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _names(each, formatted, below)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "file" and value.get("driver") == "qcow2" and _is_file(each, formatted):
                if isinstance(each.get("node-name"), str):
                    below.add(each["node-name"])
            else:
                yield from _names(each, formatted, below)


def _is_file(options: Json, names: set[str]) -> bool:
    """Whether these are the options of a plain file node with one of these file names."""
    if not isinstance(options, dict) or options.get("driver") != "file":
        return False
    name = options.get("filename")
    return isinstance(name, str) and name in names


def _ends(trace: Trace) -> Iterator[int]:
    """Where within sectors runs begin and end."""
    for image in trace.images:
        if image.format != "qcow2":
            for offset, length, _ in image.data:
                yield offset % SECTOR
                yield (offset + length) % SECTOR
    for command in trace.commands:
        if name_of(command) == WRITE:
            arguments = command["arguments"]
            offset, length = arguments["offset"], arguments["length"]
            yield offset % SECTOR
            yield (offset + length) % SECTOR


def _cuts(trace: Trace) -> Iterator[int]:
    """Where within sectors files and windows end, or are made to: zeroes follow there."""
    for image in trace.images:
        yield image.size % SECTOR
    for command in trace.commands:
        yield from _sizes(command.get("arguments"))


def _sizes(value: Json) -> Iterator[int]:
    if isinstance(value, dict):
        size = value.get("size")
        if type(size) is int:
            yield size % SECTOR
        value = list(value.values())
    elif not isinstance(value, list):
        return
    for each in value:
        yield from _sizes(each)


def _windows(commands: Iterable[Command]) -> set[int]:
    """Where within sectors windows begin."""
    found: set[int] = set()
    for command in commands:
        _add_windows(_options(command), found)
        _add_windows(_described(command), found)
    return found


def _described(command: Command) -> Json:
    """The node that a name for a header describes: it is opened with the image; or None."""
    arguments = command.get("arguments")
    name = arguments.get("backing-file") if isinstance(arguments, dict) else None
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return None
    try:
        return parse(name)
    except ValueError:
        return None


def _options(command: Command) -> Json:
    """The arguments of a command that describes nodes; None for another one."""
    execute = name_of(command)
    if isinstance(execute, str) and execute in _SHOWS_NODES:
        return command.get("arguments")
    return None


def _add_windows(options: Json, found: set[int]) -> None:
    if isinstance(options, dict):
        offset = options.get("offset")
        if type(offset) is int and offset % SECTOR:
            found.add(offset % SECTOR)
        options = options.values()
    elif not isinstance(options, list):
        return
    for each in options:
        if isinstance(each, (dict, list)):
            _add_windows(each, found)
