# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody writes an image header byte by byte: headers name files, and QEMU opens them.

The bytes of a trace come in runs of one value, written to raw images beforehand and by guests. As
long as all runs are whole sectors, no two different bytes of a header can be put next to each
other. So a trace has either

* whole sectors only, and windows (``offset`` of raw) that begin at sectors or all of them as many
  bytes behind one; or
* runs that begin or end at a few places within sectors, and no such window. (A header of qcow,
  qcow2 or qed that names a file has more than ten places at which one value ends.) Where a guest or
  a job could bring such runs into a qcow2 image, nobody gets at its bytes but through qcow2: its
  file is described with the qcow2 node, nothing else names it, and no other image is made one.

What is written to a qcow2 image beforehand goes through qcow2, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.values.trace import WRITE, name_of

from targets.holding import Refused, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.values.trace import Command, Json, Trace

SECTOR = 512
"""Bytes of what is called a sector here; QEMU's own."""
MOST_PLACES = 8
"""Places within sectors at which the runs of a trace may begin or end."""

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
    if not ragged:
        return
    if windows:
        raise Refused(
            f"runs of bytes end within sectors of {SECTOR} bytes, and a window (offset) begins in "
            "one: use whole sectors"
        )
    if len(ragged) > MOST_PLACES:
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


def _windows(commands: Iterable[Command]) -> set[int]:
    """Where within sectors windows begin."""
    found: set[int] = set()
    for command in commands:
        _add_windows(_options(command), found)
    return found


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
