# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C that is not lost, and that loses nothing; being terminated or hung up on is the same.

The first signal asks for the end: it raises KeyboardInterrupt, once. Later ones, and all that come
while results are told (:func:`hold`), are only noted, so that nobody loses a report by pressing
the keys twice. Ten seconds after the first, another ends the process at once: something hangs.

Python drops a KeyboardInterrupt that happens to be raised inside a callback of the garbage
collector or a finaliser, and the engine has such callbacks. So the signal is remembered
as well, and asked for after every example.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PATIENCE = 10.0
"""Seconds after the first signal from which on another one ends the process at once."""
STATUS = 130
"""The status of a process that a signal has ended: what a shell says of SIGINT."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TAIL = 2.0
"""Seconds in which a process ends that has nothing more to do."""


class Interrupts:
    """Whether the user has asked for the end."""

    def __init__(self) -> None:
        self.asked: float | None = None
        """When the first signal came, by the monotonic clock."""
        self._raises = True
        self._over: float | None = None
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def listen(self) -> None:
        """Take the signals over."""
        for number in _SIGNALS:
            signal.signal(number, self.ring)

    def stop(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_soon(self) -> None:
        """Note signals for as long as a process takes to end; a longer life gets them back."""
        self._raises = False
        self._over = time.monotonic()
        # The interpreter takes its handlers down before its last breath.
        atexit.register(_ignore)

    def hold(self) -> None:
        """From now on, note signals only."""
        self._raises = False

    def ring(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the first one raises KeyboardInterrupt as Python itself would."""
        now = time.monotonic()
        if self._over is not None and now > self._over + _TAIL:
            self.stop()
            os.kill(os.getpid(), number)
        elif self.asked is None:
            self.asked = now
            if self._raises:
                self._raises = False
                raise KeyboardInterrupt
        elif now > self.asked + PATIENCE:
            os._exit(STATUS)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Carry out the body whole; a signal that comes meanwhile counts after it."""
        raises, self._raises = self._raises, False
        before = self.asked
        try:
            yield
        finally:
            self._raises = raises and self.asked is None
        if raises and self.asked is not before:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one, whoever dropped it."""
        if self.asked is not None:
            raise KeyboardInterrupt


def _ignore() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


_listening: list[Interrupts] = []


@contextmanager
def listening(*, to_the_end: bool = False) -> Iterator[Interrupts]:
    """Listen for the signals during the body; outside the main thread nothing is heard.

    Who listens within such a body hears the same. ``to_the_end`` says that the process has
    nothing to do after it.
    """
    if _listening:
        yield _listening[-1]
        return
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    interrupts.listen()
    _listening.append(interrupts)
    try:
        yield interrupts
    finally:
        _listening.clear()
        if to_the_end:
            interrupts.stop_soon()
        else:
            interrupts.stop()


def hold() -> None:
    """Note signals only from now on: what was found is being told."""
    for interrupts in _listening:
        interrupts.hold()


@contextmanager
def deferred() -> Iterator[None]:
    """Carry out the body whole; a signal that comes meanwhile counts after it."""
    with ExitStack() as stack:
        for interrupts in _listening:
            stack.enter_context(interrupts.deferred())
        yield


def check() -> None:
    """Raise KeyboardInterrupt if the user has asked for the end."""
    for interrupts in _listening:
        interrupts.check()
