# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what a program prints, but no more of it than anybody wants to see."""

from __future__ import annotations

import os
import selectors
import time
from typing import IO, TYPE_CHECKING, Literal

import attrs

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

MOST_OUTPUT = 1 << 16
"""Bytes that are read of what a program prints; one that prints more is ended."""

_LOOK_EVERY = 0.25


@attrs.frozen
class Printed:
    """What came through each of some pipes, and why no more was read.

    "closed": all were; "found": what was looked for has come; "flooded": there was too much;
    "late": the time was up.
    """

    texts: tuple[bytes, ...]
    why: Literal["closed", "found", "flooded", "late"]


def read_all(
    files: Sequence[IO[bytes]],
    within: float,
    *,
    until: re.Pattern[bytes] | None = None,
    look: Callable[[], None] = lambda: None,
) -> Printed:
    """Read pipes for `within` seconds at most.

    `until` is looked for at the end of what the first one has; `look` is called every quarter of
    a second, and what it raises ends the reading.
    """
    deadline = time.monotonic() + within
    texts = [bytearray() for _ in files]
    with selectors.DefaultSelector() as selector:
        for number, file in enumerate(files):
            selector.register(file, selectors.EVENT_READ, number)
        while selector.get_map():
            found = until is not None and until.search(texts[0]) is not None
            left = deadline - time.monotonic()
            ready = selector.select(0 if found else max(0.0, min(left, _LOOK_EVERY)))
            for key, _ in ready:
                data = os.read(key.fd, MOST_OUTPUT)
                texts[key.data] += data
                if not data:
                    selector.unregister(key.fileobj)
            if sum(map(len, texts)) > MOST_OUTPUT:
                return Printed(tuple(map(bytes, texts)), "flooded")
            if found and not ready:
                return Printed(tuple(map(bytes, texts)), "found")
            if left <= 0:
                return Printed(tuple(map(bytes, texts)), "late")
            look()
    return Printed(tuple(map(bytes, texts)), "closed")
