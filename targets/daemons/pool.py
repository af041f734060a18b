# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools that keep several targets busy."""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from targets.builds.image_store import ImageStore
from targets.closing import Closing
from targets.daemons.daemon import TIMEOUT
from targets.daemons.target import Target
from targets.errors import TargetError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from model.values.trace import Trace
    from targets.builds.binaries import Build
    from targets.daemons.replay import Replay

Token = TypeVar("Token")

_QUIET = 0.5
"""Seconds without an answered command after which the oldest daemon is waited for alone."""


@attrs.frozen
class Finished(Generic[Token]):
    """A trace that a pool has run, with what its owner calls it."""

    token: Token
    trace: Trace
    replay: Replay


class Pool(Closing, Generic[Token]):
    """Several targets of one build that work while the caller prepares the next trace.

    Without threads: the daemons are processes, and a trace is sent as a whole and read when
    its turn comes, so a busy caller and its lock never slow them down. Results come in the
    order in which the traces were submitted.
    """

    def __init__(
        self,
        build: Build,
        size: int = 2,
        *,
        parent: str | os.PathLike[str] | None = None,
        arguments: tuple[str, ...] = (),
        timeout: float = TIMEOUT,
    ) -> None:
        """Describe a pool of `size` daemons; the other parameters are those of `Target`."""
        if size < 1:
            raise TargetError(f"a pool of {size} daemons cannot run anything")
        self._images = images = ImageStore(walls=build.walls)
        self._idle = deque(
            Target(build, parent=parent, images=images, arguments=arguments, timeout=timeout)
            for _ in range(size)
        )
        self._busy: deque[tuple[Target, Token, Trace]] = deque()
        self._finished: deque[Finished[Token]] = deque()

    @property
    def starts(self) -> int:
        """How many processes all targets have started so far."""
        return sum(target.starts for target in self._targets())

    def submit(
        self, trace: Trace, token: Token, *, observe: bool = True
    ) -> tuple[Finished[Token], ...]:
        """Start a trace and return the results that were waited for to make room: none or one.

        Raises TargetError as `Target.begin` does; that trace is then not submitted, and the
        results of others come with the next call.
        """
        for target, _, _ in self._busy:
            target.go_on()
        if not self._idle:
            self._finish_oldest()
        self._idle[0].begin(trace, observe=observe)
        self._busy.append((self._idle.popleft(), token, trace))
        return tuple(self._take())

    def drain(self) -> Iterator[Finished[Token]]:
        """Yield the results of everything submitted, oldest first."""
        yield from self._take()
        while self._busy:
            self._finish_oldest()
            yield from self._take()

    def close(self) -> None:
        """End all daemons and remove their directories; unread results are lost."""
        for target in self._targets():
            with contextlib.suppress(OSError):
                target.close()
        self._images.close()

    def _finish_oldest(self) -> None:
        self._wait_for_oldest()
        target, token, trace = self._busy.popleft()
        self._idle.append(target)
        self._finished.append(Finished(token, trace, target.finish()))

    def _wait_for_oldest(self) -> None:
        """Keep all daemons at work until the oldest trace is answered.

        When no command is answered for a while (one of ours may ask for ever what its job does),
        or a daemon is gone, `Target.finish` finds out more.
        """
        oldest = self._busy[0][0]
        watched = {
            daemon.connection.fileno(): target
            for target, _, _ in self._busy
            if (daemon := target.answering) is not None
        }
        poll = select.poll()
        for descriptor in watched:
            poll.register(descriptor, select.POLLIN)
        answered, until = oldest.answered, time.monotonic() + _QUIET
        while oldest.answering is not None:
            if oldest.answered != answered:
                answered, until = oldest.answered, time.monotonic() + _QUIET
            left = until - time.monotonic()
            if left <= 0:
                return
            for descriptor, _ in poll.poll(left * 1000):
                target = watched[descriptor]
                if not target.go_on():
                    poll.unregister(descriptor)
                    if target is oldest:
                        return

    def _take(self) -> Iterator[Finished[Token]]:
        while self._finished:
            yield self._finished.popleft()

    def _targets(self) -> list[Target]:
        return [*self._idle, *(target for target, _, _ in self._busy)]
