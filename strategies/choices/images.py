# SPDX-License-Identifier: GPL-2.0-or-later
"""The image files of a trace: one to six, with and without backing chains and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.values.trace import ImageSpec
from strategies.choices.option_values import KIB, MIB
from strategies.choices.weights import FILLED

if TYPE_CHECKING:
    from strategies.choices.chooser import Chooser

MOST_IMAGES: Final = 6
LONGEST_CHAIN: Final = 3
SIZES: Final = (MIB, MIB, MIB, MIB, 64 * KIB, 512 * KIB, 2 * MIB, 3 * MIB)
FORMATS: Final = ("qcow2", "qcow2", "qcow2", "raw")
BACKED: Final = 45
COUNTS: Final = (1, 2, 3, 3, 4, 4, 5, 5, 6, 6)

_PARTS = 16
_PATTERNS = 40
"""How many values an image has for itself, so that one sees where a byte comes from."""
_ODD = 8 * KIB

Layout = tuple[tuple[int, int, int, int], ...]

LAYOUTS: Final[tuple[Layout, ...]] = (
    ((0, 16, 0, 0),),
    ((0, 16, 0, 0), (0, 8, 1, 0)),
    ((0, 8, 0, 0),),
    ((8, 16, 0, 0),),
    ((15, 16, 0, 0),),
    ((0, 1, 0, 0), (5, 6, 1, 0), (9, 12, 2, 0)),
    ((2, 4, 0, 0), (6, 8, 1, 0), (10, 12, 2, 0), (14, 16, 3, 0)),
    ((1, 2, 0, 1), (7, 8, 1, 1)),
    ((0, 3, 0, 0), (4, 12, -1, 0)),
    ((0, 16, -1, 0), (3, 5, 0, 1)),
    ((0, 12, 0, 0), (4, 6, -1, 1), (6, 8, 1, 0)),
)
"""Runs of sixteenths of an image: first, end, which of the image's values (-1: zeroes, which are
data, too: they hide what lies below), and by how many pages both ends are moved inwards. There are
not many, so that a target need not make each image anew."""

Runs = tuple[tuple[int, int, int], ...]


def choose_images(choose: Chooser) -> tuple[ImageSpec, ...]:
    """Images hd0, hd1, ... ; a qcow2 image may be backed by an earlier one."""
    images: list[ImageSpec] = []
    depth: dict[str, int] = {}
    for number in range(choose.one_of(COUNTS)):
        kind = choose.one_of(FORMATS)
        name = f"hd{number}.{kind}"
        bases = [image for image in images if depth[image.name] < LONGEST_CHAIN]
        base = None
        if kind == "qcow2" and bases and choose.chance(BACKED):
            base = choose.one_of(bases)
        depth[name] = 1 + (depth[base.name] if base else 0)
        size = choose.one_of(SIZES)
        images.append(
            ImageSpec(
                name,
                kind,
                size,
                base.name if base else None,
                base.format if base else None,
                _data(choose, number, size) if choose.chance(FILLED) else (),
            )
        )
    return tuple(images)


def _data(choose: Chooser, number: int, size: int) -> Runs:
    """What is written to an image: one of the layouts, in the image's own values."""
    first = 1 + number * _PATTERNS
    part = size // _PARTS
    runs: list[tuple[int, int, int]] = []
    for start, end, value, inwards in choose.one_of(LAYOUTS):
        shift = inwards * _ODD if part > 2 * _ODD else 0
        offset, length = start * part + shift, (end - start) * part - 2 * shift
        runs.append((offset, length, 0 if value < 0 else first + value))
    return tuple(runs)
