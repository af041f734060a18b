# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mirror finds out about zeroes in its target, so as not to write them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data import requests
from model.data.block_status import DATA, ZERO, Question, is_zero, status_above
from model.data.image_access import UNKNOWN_BYTES
from model.graph.traversal import length_of
from model.release.rules import effect
from model.values import ranges

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.ranges import Ranges

KNOWS_ZEROES = effect(
    "mirror.knows-zeroes",
    "A mirror looks if its target is all zeroes, and writes none where it knows of them.",
    source="11.1; before, it writes all, or zeroes first",
)
PUNCHES = effect(
    "mirror.punches",
    "A mirror writes all of a target that is to give back the space of zeroes, even if it has "
    "nothing but zeroes.",
    source="11.1",
)

_MOST_READ = 128 << 10
"""So much at the beginning is read to see if it is zero, if nothing but that has data."""


def all_zeroes(t: Transition, name: str) -> bool:
    """Whether a node is found to read as zeroes.

    Raises :class:`ImageError` where its beginning is no bytes of a guest's.
    """
    length = length_of(t, name)
    reached, flags = status_above(t, name, None, 0, length, asked=Question.ZEROES)
    if flags & ZERO:
        return is_zero(t, name, reached, length)
    if reached > _MOST_READ or not is_zero(t, name, reached, length):
        return False
    if not flags & DATA:
        # A null node that is not to read as zeroes leaves in the buffer what happens to be there.
        t.ev.meet(UNKNOWN_BYTES)
    return not requests.differs(t, requests.get(t, name, 0, reached))


def covers(known: Ranges | None, start: int, end: int) -> bool:
    """Whether all chunks of a range are known to be zero."""
    return known is not None and ranges.within(known, start, end) == ((start, end),)
