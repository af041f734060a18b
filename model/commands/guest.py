# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest of a node does: it reads and writes, and jobs notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data.requests import (
    REQUEST,
    Pieces,
    check_known,
    check_range,
    copy_up,
    get,
    merged,
    pieces,
    put,
)
from model.graph.sizes import foresee
from model.jobs import lifecycle
from model.values.image_layout import ImageError, shown

if TYPE_CHECKING:
    from model.graph.transition import Transition


def read(t: Transition, name: str, offset: int, length: int) -> bytes:
    """``length`` bytes from ``offset`` as a guest of the node reads them.

    Raises :class:`ImageError` where that is no bytes of a guest's, or none at all.
    """
    check_range(t, name, offset, length)
    copy_up(t, name, offset, offset + length)
    lifecycle.wake(t)
    out = bytearray(length)
    found = pieces(t, name, offset, offset + length)
    check_known(name, found)
    for start, end, value in found:
        out[start - offset : end - offset] = bytes([value]) * (end - start)
    return bytes(out)


def runs(t: Transition, name: str, offset: int, length: int) -> Pieces:
    """The runs ``(start, end, value)`` of bytes but zero that a guest reads, request by request.

    Raises :class:`ImageError` as :func:`read` does.
    """
    check_range(t, name, offset, length)
    found: Pieces = []
    end = offset + length
    foresee(t, length // REQUEST)
    for start in range(offset, end, REQUEST):
        found += get(t, name, start, min(start + REQUEST, end))
    check_known(name, found)
    lifecycle.wake(t)
    return merged(found)


def write(t: Transition, name: str, offset: int, length: int, pattern: int) -> None:
    """Write ``length`` bytes of the value ``pattern`` from ``offset``, as a guest would.

    Raises :class:`ImageError` where a guest could not.
    """
    check_range(t, name, offset, length)
    if not 0 <= pattern <= 255:  # noqa: PLR2004  # a byte
        raise ImageError(f"a pattern is a byte, 0 to 255: {shown(pattern)}")
    if t.nodes[name].read_only:
        raise ImageError(f"node {name!r} is read-only")
    if length:
        put(t, name, offset, offset + length, [(offset, offset + length, pattern)])
        lifecycle.wake(t)
