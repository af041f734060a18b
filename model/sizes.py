# SPDX-License-Identifier: GPL-2.0-or-later
"""How large a state may be. QEMU goes on; the spec says where it does not follow any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.images import MOST_RUNS
from model.rules import outside

if TYPE_CHECKING:
    from model.graph import Transition
    from model.rules import Evaluation

SIZE = outside(
    "qapi.size",
    "There are no more nodes, objects, jobs, exports and devices than the spec keeps an eye on, "
    "and no more runs of bytes in an image.",
    text="a state with more than {most} {what} is not modelled",
)

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
