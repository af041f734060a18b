# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a descriptor, and how much of the time was really spent listening.

What counts as silence is the other end's only while we listen. A process that was stopped, or
waited for its share of the processor, sees minutes go by at once: of each slice no more counts
than it was meant to last, and a last look is taken before anybody is called silent.
"""

from __future__ import annotations

import select
import time

_SLICE = 0.25
"""Seconds that are waited for at a time."""


class SilenceError(Exception):
    """Nothing came in time."""


def listen(descriptor: int, events: int, limit: float) -> float:
    """Wait until one of `events` is there and return the seconds that were spent listening.

    Raises SilenceError after `limit` seconds of listening; with none left, it only looks.
    """
    poll = select.poll()
    poll.register(descriptor, events)
    listened = 0.0
    while True:
        slice_ = max(0.0, min(_SLICE, limit - listened))
        begun = time.monotonic()
        if poll.poll(slice_ * 1000):
            return listened + min(slice_, time.monotonic() - begun)
        listened += slice_
        if listened >= limit:
            raise SilenceError
