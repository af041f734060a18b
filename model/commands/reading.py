# SPDX-License-Identifier: GPL-2.0-or-later
"""What guests would read in a state, which stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.commands import guest
from model.data.image_access import content
from model.graph.transition import Transition
from model.graph.traversal import length_of
from model.release.rules import NotModelledError
from model.values.image_layout import ImageError

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from model.values.state import BlockState, Image


def length(state: BlockState, dialect: Dialect, name: str) -> int:
    """The length of a node in bytes."""
    return length_of(_aside(state, dialect), name)


def image_shown(state: BlockState, dialect: Dialect, name: str) -> Image | None:
    """The image file whose bytes a node shows unchanged from the beginning, if any."""
    return content(_aside(state, dialect), name)


def runs(state: BlockState, dialect: Dialect, name: str) -> list[tuple[int, int, int]] | None:
    """The runs ``(start, end, value)`` of bytes but zero in all of a node; None if nobody knows.

    What is copied because it is read is copied in a state of its own.
    """
    t = _aside(state, dialect)
    try:
        return guest.runs(t, name, 0, length_of(t, name))
    except (ImageError, NotModelledError):
        return None


def _aside(state: BlockState, dialect: Dialect) -> Transition:
    return Transition(state, dialect.evaluation())
