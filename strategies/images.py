# SPDX-License-Identifier: GPL-2.0-or-later
"""The image files of a trace: one to six, with and without backing chains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.trace import ImageSpec
from strategies.catalogue import KIB, MIB

if TYPE_CHECKING:
    from strategies.choosing import Chooser

MOST_IMAGES: Final = 6
LONGEST_CHAIN: Final = 3
SIZES: Final = (MIB, MIB, MIB, MIB, 64 * KIB, 512 * KIB, 2 * MIB, 3 * MIB)
FORMATS: Final = ("qcow2", "qcow2", "qcow2", "raw")
BACKED: Final = 45


def choose_images(choose: Chooser) -> tuple[ImageSpec, ...]:
    """Images hd0, hd1, ... ; a qcow2 image may be backed by an earlier one."""
    images: list[ImageSpec] = []
    depth: dict[str, int] = {}
    for number in range(choose.integer(1, MOST_IMAGES)):
        kind = choose.one_of(FORMATS)
        name = f"hd{number}.{kind}"
        bases = [image for image in images if depth[image.name] < LONGEST_CHAIN]
        base = None
        if kind == "qcow2" and bases and choose.chance(BACKED):
            base = choose.one_of(bases)
        depth[name] = 1 + (depth[base.name] if base else 0)
        images.append(
            ImageSpec(
                name,
                kind,
                choose.one_of(SIZES),
                base.name if base else None,
                base.format if base else None,
            )
        )
    return tuple(images)
