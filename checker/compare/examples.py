# SPDX-License-Identifier: GPL-2.0-or-later
"""Who makes examples, and how a run takes them one after the other."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from checker import interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checker.compare.verdict import Example

P = ParamSpec("P")
T = TypeVar("T")


class StopRun(BaseException):
    """Ends generation from inside: nothing more is wanted.

    Not an Exception, which the engine would take for a failing example.
    """


class Generator(Protocol):
    """Something that makes examples and hands each to ``sink``.

    A generator returns when it has made all, and lets :class:`StopRun` pass.
    """

    def __call__(self, sink: Callable[[Example], None], /) -> None:
        """Make examples until there are no more."""


class Intake:
    """Takes examples until a time is over, an error comes up or the user has asked for the end."""

    def __init__(self, end: float | None) -> None:
        self.failure: Exception | None = None
        self._end = end

    def guarded(self, take: Callable[P, None]) -> Callable[P, None]:
        """A function that notes what `take` raises, and raises :class:`StopRun` instead.

        The engine would take an error for a failing example and try it again.
        """

        def guard(*args: P.args, **keywords: P.kwargs) -> None:
            try:
                take(*args, **keywords)
            except Exception as error:
                self.failure = error
                raise StopRun from error

        return guard

    def sink(self, take: Callable[[T], None]) -> Callable[[T], None]:
        """What a generator hands its examples to, so that `take` gets each."""
        guarded = self.guarded(take)

        def sink(example: T) -> None:
            interrupts.check()
            guarded(example)
            if self._end is not None and time.monotonic() > self._end:
                raise StopRun

        return sink


@contextlib.contextmanager
def intake(end: float | None) -> Iterator[Intake]:
    """Take examples in the body; `end` is by the monotonic clock.

    :class:`StopRun` ends the body and no more. An error that was noted in it is raised after it.
    """
    taking = Intake(end)
    with contextlib.suppress(StopRun):
        yield taking
    if taking.failure is not None:
        raise taking.failure
