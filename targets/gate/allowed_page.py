# SPDX-License-Identifier: GPL-2.0-or-later
"""``docs/containment.md``: the tables of the gate for readers.

Written anew by ``reopencheck rules --allowed >docs/containment.md``; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from targets.gate import validation as gate
from targets.gate.allowed import COMMANDS, DEVICE, DEVICES, EXPORTS, OBJECT, OBJECTS
from targets.gate.block_options import BLOCK, DRIVERS
from targets.gate.graph_work import MOST_AT_ONCE, MOST_WORK
from targets.gate.image_headers import MOST_PLACES, SECTOR

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from targets.gate.kinds import Kind

_HEAD = """\
# What a trace may hold

Cases may come from people you do not know, and are replayed against real programs. Whatever is not
on this page is refused, with its place, before anything starts: whenever a case is read, and before
each run on a real target. The page is made from the tables that decide (`targets/gate/allowed.py`,
`targets/gate/block_options.py`): `reopencheck rules --allowed >docs/containment.md`.

* **File names** are plain names of files in the scratch directory: letters, digits, `_`, `.`, `+`
  and `-`, at most 200, a letter, digit or `_` first (`./` may stand before it). Nothing with a
  colon or a slash is one. Also allowed, as they are harmless: `.`, an empty name, `/dev/null`,
  `/dev/zero`.
* **Names by which QEMU calls images** (`base`, `top`, `backing-file`) may be what it makes up
  itself, such as `json:...`. These are parsed as QEMU parses them (single quotes, no comments, no
  member twice) and checked inside by the same tables, every value of its member's type. What
  cannot be parsed is refused. No member may be written with dots.
* **Sockets** are files of the directory.
* **Wrong commands** pass, since refusing them is part of what is tested: a value of another type
  than a member takes, as long as it has nothing but plain words, numbers and the like; a word
  with `zz` at its end or `no-such-...` for a driver, a type or a command; a member that no
  release has, with a small value. A member that some release has in the same place, and that is
  not listed, is refused.
* **Image headers** name files, so nobody may write one. Runs of bytes are whole sectors of
  {sector} bytes, or begin and end at up to {places} places within sectors; then the bytes of
  qcow2 images are reached through qcow2 only. Places where a file or a window
  ends (`size`) count as well. Windows (`offset` of raw) begin at sectors, or all as far behind one.
  In the second case jobs can move bytes by any distance: so where a guest or a job brings bytes,
  none of choice is "/" or ":", without which no name leads out (written bytes, sizes of qcow2
  images, names for headers). What is left, such as numbers in the tables of a qcow2 image, is left
  to the walls.

The gate looks at what is written in a trace, not at what a program makes of it. What it cannot
see is left to the walls behind it.
"""


def page() -> str:
    """The whole page."""
    head = _HEAD.format(sector=SECTOR, places=MOST_PLACES)
    return "\n".join([head, *_limits(), *_tables()]) + "\n"


def _limits() -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield "| of | at most |"
    yield "|---|---|"
    yield f"| commands of a trace | {gate.MOST_COMMANDS:,} |"
    yield f"| nodes that it adds (JSON objects in `blockdev-add`) | {gate.MOST_NODES:,} |"
    yield f"| objects and devices that it makes | {gate.MOST_OBJECTS:,} |"
    yield f"| values in one command | {gate.MOST_VALUES:,} |"
    yield f"| levels of one command | {gate.DEEPEST:,} |"
    yield f"| characters of one string | {gate.LONGEST:,} |"
    yield f"| images | {gate.MOST_IMAGES:,}, each {gate.LARGEST_IMAGE >> 40:,} TiB |"
    yield f"| formats of images and of their backing files | {_words(gate.FORMATS)} |"
    yield f"| data of all images | {gate.MOST_DATA >> 20} MiB in {gate.MOST_RUNS:,} runs |"
    yield f"| units of work to make all images | {gate.MOST_MAKING:,} |"
    yield f"| units of work that its graphs make at one step | {MOST_AT_ONCE:,} |"
    yield f"| units of work that its graphs make at all steps | {MOST_WORK:,} |"
    yield f"| bytes of one `reopencheck-write` | {gate.MOST_DATA >> 20} MiB |"
    yield ""
    yield "[limits.md](limits.md#of-a-graph) says what the units are."
    yield ""


def _tables() -> Iterator[str]:
    yield "## Commands"
    yield ""
    yield "The driving commands (`reopencheck-...`) are in [case-format.md](case-format.md)."
    yield ""
    yield "| command | members |"
    yield "|---|---|"
    for name, allowed in COMMANDS.items():
        shown = "options of a node" if allowed.members is BLOCK else _inline(name, allowed.members)
        yield f"| `{name}` | {shown} |"
    yield ""
    yield from _table("Options of nodes", f"Drivers: {_words(DRIVERS)}.", BLOCK)
    yield from _table("Objects", f"Types: {_words(OBJECTS)}.", OBJECT)
    yield from _table("Devices", f"Models: {_words(DEVICES)}.", DEVICE)
    yield f"## Exports\n\nTypes: {_words(EXPORTS)}."


def _inline(command: str, members: Mapping[str, Kind]) -> str:
    if command == "object-add":
        return "properties of an object"
    if command == "device_add":
        return "properties of a device"
    return "; ".join(f"`{name}`: {_short(kind)}" for name, kind in members.items()) or "none"


def _short(kind: Kind) -> str:
    return kind.means if kind.name in {"object", "list", "number", "socket"} else kind.name


def _table(title: str, text: str, members: Mapping[str, Kind]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield text
    yield ""
    yield "| member | what it may hold |"
    yield "|---|---|"
    for name, kind in members.items():
        yield f"| `{name}` | {kind.means} |"
    yield ""


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
