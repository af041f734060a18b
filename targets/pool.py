# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that run one trace after the other, and pools that keep several of them busy."""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs

from targets.closing import Closing
from targets.containment import check_trace
from targets.daemon import TIMEOUT, Daemon, StartError
from targets.deaths import Death
from targets.driving import objects_of
from targets.errors import TargetError
from targets.images import ImageStore
from targets.replay import Exchange, Replay
from targets.reset import (
    USERS_WITHIN,
    makes_users,
    needs_restart,
    removals,
    remove_rest,
    remove_users,
    users_remain,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from model.values.trace import Command, Trace

    from targets.binaries import Build

Token = TypeVar("Token")

_STARTS = 5
"""How often a daemon is started before its not coming up counts."""

_DEATHS = 3
"""How many deaths that are not alike are taken for an answer."""

_SURE = frozenset({"hang", "protocol", "disturbed"})
"""Deaths that nobody brings about from outside without our seeing it: a second one is enough."""

_QUIET = 0.5
"""Seconds without an answered command after which the oldest daemon is waited for alone."""


@attrs.define
class _Run:
    """A trace on its way, and what removes all that it makes.

    That is ``sent`` along with the trace, or by itself (``removal``) once it is known which jobs
    are left.
    """

    trace: Trace
    exchange: Exchange
    sent: tuple[Command, ...] | None
    removal: Exchange | None = None

    def finish(self, daemon: Daemon, timeout: float) -> tuple[Death | None, bool]:
        """Read all answers; how the daemon died of the trace, if it did, and whether it is clean.

        What disturbs it once everything is answered takes nothing from the answers.
        """
        count = len(self.trace.commands)
        death = self.exchange.finish(timeout)
        clean: Death | bool = False
        if death is None:
            clean = self.nothing_left(daemon, timeout)
            death = clean if isinstance(clean, Death) else None
        if death is not None and death.disturbed and death.step >= count:
            return None, False
        return death, clean is True

    @property
    def done(self) -> bool:
        """Whether all is answered that was sent, and nothing is still to be sent."""
        return self.exchange.done and (self.removal or self.exchange).done

    def clean(self, daemon: Daemon) -> None:
        """Send what removes everything, if that has not been done."""
        if self.sent is None and self.exchange.done:
            self.sent, self.removal = remove_users(daemon, self.trace, self.exchange.statuses)

    def go_on(self, daemon: Daemon) -> bool:
        """Take what has arrived, without waiting; False if the daemon is gone."""
        alive = (self.removal or self.exchange).go_on()
        self.clean(daemon)
        return alive

    def nothing_left(self, daemon: Daemon, timeout: float) -> Death | bool:
        """Whether all was removed that the trace has made, or how the daemon died of it."""
        count = len(self.trace.commands)
        replies = self.exchange.replies()
        if needs_restart(self.trace, replies[:count], self.exchange.events()):
            return False
        self.clean(daemon)
        sent = self.sent or ()
        if self.removal is None:
            clean = remove_rest(daemon, self.trace, sent, replies[count:], timeout)
            return attrs.evolve(clean, step=count) if isinstance(clean, Death) else clean
        # What becomes of a daemon that is made to drop its jobs is not the trace's business.
        if self.removal.finish(USERS_WITHIN) is not None:
            return False
        replies = self.removal.replies()
        if users_remain(sent, replies):
            return False
        return remove_rest(daemon, self.trace, sent, replies, USERS_WITHIN) is True


class Target(Closing):
    """Runs traces on one build, each as if the daemon had just been started.

    The daemon is kept between traces when all that a trace made can be removed, and
    replaced when not, or when it died. A context manager.
    """

    def __init__(
        self,
        build: Build,
        *,
        parent: str | os.PathLike[str] | None = None,
        images: ImageStore | None = None,
        arguments: tuple[str, ...] = (),
        timeout: float = TIMEOUT,
    ) -> None:
        """Describe the target; the daemon starts with the first trace.

        `parent` is where scratch directories go, `images` a store to share, `arguments` are
        added to the daemon's command line, `timeout` is in seconds of silence.
        """
        self.build = build
        self.starts = 0
        """How many processes were started so far."""
        self._parent = parent
        self._images = images or ImageStore(walls=build.walls)
        self._shares_images = images is not None
        self._arguments = arguments
        self._timeout = timeout
        self._daemon: Daemon | None = None
        self._objects: tuple[str, ...] = ()
        self._running: _Run | None = None
        self._unstarted: Death | None = None

    @property
    def daemon(self) -> Daemon:
        """The daemon that the next trace will use; started if there is none.

        One that does not come up is tried again, since it may be somebody else's doing. Raises
        StartError if none does.
        """
        if self._daemon is not None and not self._daemon.alive:
            self._discard()
        tries = 0
        while self._daemon is None:
            tries += 1
            self.starts += 1
            try:
                arguments = (*self._objects, *self._arguments)
                self._daemon = Daemon(self.build, self._parent, arguments)
            except StartError as error:
                if tries == _STARTS or error.death.kind == "hang":
                    raise
        return self._daemon

    def begin(self, trace: Trace, *, observe: bool = True, lockstep: bool = False) -> None:
        """Make a trace's images and send all of its commands; returns before they are done.

        `finish` must follow. Raises ContainmentError for a trace that may not reach a real program,
        and TargetError when an image cannot be made or no daemon starts; one that does not start
        with the objects that the trace asks for dies of the trace.
        """
        if self._running is not None or self._unstarted is not None:
            raise TargetError("the target still runs another trace")
        check_trace(trace)
        objects = objects_of(trace.commands)
        if objects != self._objects:
            self._discard()
            self._objects = objects
        try:
            daemon = self._cleared()
        except StartError as error:
            if not objects or error.death.disturbed:
                raise
            self._unstarted = error.death
            return
        try:
            self._images.create(daemon.directory, trace.images)
            daemon.connection.drain()
            daemon.mark()
            # What removes the trace's nodes goes along: usually it is all that is needed.
            sent = None if makes_users(trace) else removals(trace)
            exchange = Exchange(
                daemon,
                (*trace.commands, *(sent or ())),
                observed=len(trace.commands) if observe else 0,
                lockstep=lockstep,
            )
        except BaseException:
            self._discard()
            raise
        self._running = _Run(trace, exchange, sent)

    def _cleared(self) -> Daemon:
        """The daemon for the next trace, with an empty directory."""
        try:
            self.daemon.clear_directory()
        except OSError:
            # Somebody has removed it, or made something there that we may not touch.
            self._discard()
        return self.daemon

    @property
    def answering(self) -> Daemon | None:
        """The daemon whose answers to a begun trace are still to come, if there is one."""
        return None if self._running is None or self._running.done else self._daemon

    @property
    def answered(self) -> int:
        """How many commands of a begun trace are answered by now."""
        return 0 if self._running is None else self._running.exchange.answered

    def go_on(self) -> bool:
        """Go on with a begun trace as far as is possible at once; False if the daemon is gone."""
        if self._running is None or self._daemon is None:
            return False
        return self._running.go_on(self._daemon)

    def finish(self) -> Replay:
        """Return what the begun trace showed, and make the target ready for the next one.

        Whatever the daemon did is in the result. Raises TargetError only if none was begun.
        """
        if self._unstarted is not None:
            death, self._unstarted = self._unstarted, None
            return Replay((), death)
        if self._running is None or self._daemon is None:
            raise TargetError("the target runs no trace")
        run, self._running = self._running, None
        count = len(run.trace.commands)
        try:
            lost, clean = run.finish(self._daemon, self._timeout)
            if not clean:
                self._discard()
        except BaseException:
            # Interrupted half way: the connection holds answers that nobody will ask for.
            self._discard()
            raise
        if lost is not None:
            lost = attrs.evolve(lost, step=min(lost.step, count))
        seen = run.exchange.observations()
        return Replay(seen[:count], lost)

    def run(self, trace: Trace, *, observe: bool = True, lockstep: bool = False) -> Replay:
        """Return what a trace shows on this target. Raises TargetError as `begin` does."""
        self.begin(trace, observe=observe, lockstep=lockstep)
        return self.finish()

    def confirm(self, trace: Trace, *, observe: bool = True) -> Replay:
        """Return what a trace shows on a fresh process.

        A process that dies is asked again, with one command at a time: replies that a dying
        process did not get rid of then no longer blur which command it was. A death that is
        returned is one that came twice in the same way, the last time included. A disturbed run is
        returned as it is, and one that dies otherwise each time is disturbed.
        """
        replay = self._afresh(trace, observe=observe)
        if replay.death is None or replay.death.disturbed:
            return replay
        lockstep = self._afresh(trace, observe=observe, lockstep=True)
        if lockstep.death is None:
            # Perhaps it only dies when it is asked for all at once.
            return self._same_again(trace, replay.death, observe=observe, lockstep=False)
        if lockstep.death.kind in _SURE:
            return lockstep
        return self._same_again(trace, lockstep.death, observe=observe, lockstep=True)

    def _same_again(self, trace: Trace, death: Death, *, observe: bool, lockstep: bool) -> Replay:
        """Run a trace until it lives, or dies as it did before."""
        known = [death]
        while True:
            replay = self._afresh(trace, observe=observe, lockstep=lockstep)
            last = replay.death
            if last is None or last.disturbed or any(last.is_like(each) for each in known):
                return replay
            if len(known) == _DEATHS:
                detail = "it died in another way each time"
                return attrs.evolve(
                    replay, death=attrs.evolve(last, kind="disturbed", detail=detail)
                )
            known.append(last)

    def _afresh(self, trace: Trace, *, observe: bool, lockstep: bool = False) -> Replay:
        self._discard()
        return self.run(trace, observe=observe, lockstep=lockstep)

    def close(self) -> None:
        """End the daemon and remove its directory; may be called again."""
        self._running = self._unstarted = None
        self._discard()
        if not self._shares_images:
            self._images.close()

    def _discard(self) -> None:
        if self._daemon is not None:
            self._daemon.close()
            self._daemon = None


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
