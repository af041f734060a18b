# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C that is not lost; being terminated is the same.

Python drops a KeyboardInterrupt that happens to be raised inside a callback of the garbage
collector or a finaliser, and the engine has such callbacks. So the signal is remembered
as well, and asked for after every example.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Whether the user has asked for the end."""

    def __init__(self) -> None:
        self._asked = False

    def ring(self, _number: int, _frame: FrameType | None) -> None:
        """Note the signal, and raise KeyboardInterrupt as Python itself would."""
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one, whoever dropped it."""
        if self._asked:
            raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[Interrupts]:
    """Listen for both signals during the body; outside the main thread nothing is heard."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.ring) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
