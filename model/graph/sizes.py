# SPDX-License-Identifier: GPL-2.0-or-later
"""How large a state may be, and how much a command may do with it.

QEMU goes on; the spec says where it does not follow any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.release.rules import outside
from model.values.image_layout import MOST_RUNS

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.release.rules import Evaluation

SIZE = outside(
    "qapi.size",
    "There are no more nodes, objects, jobs, exports and devices than the spec follows, "
    "and no more runs of bytes in an image.",
    text="a state with more than {most} {what} is not modelled",
)
WORK = outside(
    "data.work",
    "A command, with the jobs that it sets going, has no more pieces of images to read, write and "
    "look at than can be followed one by one.",
    text="a command that works on so many pieces of images is not modelled",
)

MEMORY = outside(
    "data.memory",
    "No buffer, cache or bitmap is asked for that takes more memory than every host has.",
    text="{what} of more than {most} bytes is not modelled",
)

MOST_MEMORY: Final = 1 << 30
"""How many bytes of memory a command may ask for at once: whether there are more, the host says."""
MOST_WORK: Final = 100_000
"""How many pieces of work a command may do: a request to a node, or a question to it, is one.

Each takes some ten microseconds, so that every command is answered within a second or two.
"""
_LIGHT: Final = 100
"""So many entries of a table are gone through in the time of one piece of work."""

MOST: Final = {
    "nodes": 500,
    "objects": 1000,
    "jobs": 1000,
    "exports": 1000,
    "devices": 1000,
    "images": 1000,
}
"""How many of a kind there may be in a state: a chain of nodes is walked by every command."""


_LEAST: Final = min(MOST.values())


def check_count(ev: Evaluation, what: str, count: int) -> None:
    """Raise ``NotModelledError`` for too many of a kind."""
    if count > MOST[what]:
        ev.leave(SIZE, f"limit/{what}", most=MOST[what], what=what)


def check_memory(ev: Evaluation, what: str, size: int) -> None:
    """Raise ``NotModelledError`` where so many bytes of memory are more than every host has."""
    if size > MOST_MEMORY:
        ev.leave(MEMORY, "limit/memory", what=what, most=MOST_MEMORY)


def spend(t: Transition, count: int = 1, *, entries: int = 0) -> None:
    """Note down that ``count`` pieces of work, and a walk through ``entries``, come now.

    Raises ``NotModelledError`` before they are begun if that is too much for one command.
    """
    t.spent += count + entries // _LIGHT
    if t.spent > MOST_WORK:
        t.ev.leave(WORK, "limit/work")


def foresee(t: Transition, count: int) -> None:
    """Raise ``NotModelledError`` if at least ``count`` pieces to come are too many.

    They are not noted down: whoever does them says so.
    """
    if t.spent + count > MOST_WORK:
        t.ev.leave(WORK, "limit/work")


def check_size(t: Transition) -> None:
    """Raise ``NotModelledError`` for a state that is too large to be worked with."""
    every = len(t.nodes) + len(t.objects) + len(t.jobs) + len(t.exports) + len(t.devices)
    if every > _LEAST:
        for what in MOST:
            check_count(t.ev, what, len(getattr(t, what)))
    for image in t.images.values():
        if len(image.extents) > MOST_RUNS:
            t.ev.leave(SIZE, "limit/runs", most=MOST_RUNS, what="runs of bytes in an image")


def check_another_node(t: Transition) -> None:
    """Raise ``NotModelledError`` where there are too many nodes to open one more."""
    check_count(t.ev, "nodes", len(t.nodes) + len(t.pending) + 1)
