# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends a finished trace to a storage daemon and collects what it shows.

The daemon reads its monitor one byte at a time (3 to 4 us per byte, measured on every
release from 5.2 to 11.1), so requests are as short as they can be: no spaces, no line
ends, and an identifier only where a reply could be taken for another.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from model.trace import Command, Json, Observation, Reply, Trace
from targets.connection import ConnectionLostError, SilenceError
from targets.daemon import TIMEOUT, Death, StorageDaemon

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES: Command = {"execute": "query-named-block-nodes", "arguments": {"flat": True}}
GRAPH: Command = {"execute": "x-debug-query-block-graph"}

# The encoder of the standard library, because a trace may hold what others refuse: numbers
# of any size and lone surrogates.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode
_OBSERVE = _encode(NODES) + _encode(GRAPH)
_QUERIES = 2


@attrs.frozen
class Replay:
    """What a daemon showed of a trace.

    One observation per command that was answered, in order, and the death that ended the
    replay early, or None. If the daemon died while the graph was being asked for, the
    last observation has the reply and lacks the graph.
    """

    observations: tuple[Observation, ...]
    death: Death | None = None


@attrs.define
class _Step:
    """The answers that have arrived for one command, and how many queries follow it."""

    wanted: int
    reply: Reply | None = None
    queries: list[Json] = attrs.Factory(list)
    events: list[dict[str, Json]] = attrs.Factory(list)


class Exchange:
    """A list of commands on its way: everything is sent at once, read when it suits.

    The daemon works while the caller does something else; `finish` reads the answers.
    """

    def __init__(
        self,
        daemon: StorageDaemon,
        commands: Sequence[Command],
        *,
        observed: int,
        lockstep: bool = False,
    ) -> None:
        """Send the commands, each of the first `observed` followed by the two queries.

        With `lockstep` each command waits for the answers to the one before, so that a death
        is charged to the right one even if replies are lost with the process.
        """
        self._daemon = daemon
        self._steps = [
            _Step(wanted=_QUERIES if index < observed else 0) for index in range(len(commands))
        ]
        self._answered = 0
        self._repeated: dict[int, tuple[bytes, Json]] = {}
        requests = [
            _encode({**command, "id": index}) + (_OBSERVE if index < observed else "")
            for index, command in enumerate(commands)
        ]
        self._waiting: list[bytes] = []
        if lockstep:
            self._waiting = [request.encode() for request in reversed(requests)]
            self._send_next()
        else:
            daemon.connection.send("".join(requests).encode())

    @property
    def answered(self) -> int:
        """How many commands have all their answers, counted from the first."""
        return self._answered

    def finish(self, timeout: float = TIMEOUT) -> Death | None:
        """Read until every command is answered; return how the daemon died, if it did.

        `timeout` is the longest silence in seconds, without any reply, that is not a hang.
        """
        deadline = time.monotonic() + timeout
        while self._answered < len(self._steps):
            try:
                lines = self._daemon.connection.receive(deadline - time.monotonic())
            except ConnectionLostError:
                return self._daemon.autopsy(self._answered, silent=False)
            except SilenceError:
                return self._daemon.autopsy(self._answered, silent=True)
            for line in lines:
                if self._take(line):
                    deadline = time.monotonic() + timeout
        return None

    def observations(self) -> tuple[Observation, ...]:
        """Return an observation for each command that was answered, up to the first that was not.

        Events count for the step during which they arrived. Equal graphs may be one and the
        same object: they are for reading only.
        """
        found = []
        for step in self._steps:
            if step.reply is None:
                break
            nodes, graph, *_ = (*step.queries, None, None)
            found.append(Observation(step.reply, nodes, graph, tuple(step.events)))
        return tuple(found)

    def replies(self) -> list[Reply]:
        """Return the replies up to the first command without one."""
        return [observation.reply for observation in self.observations()]

    def _send_next(self) -> None:
        if self._waiting:
            self._daemon.connection.send(self._waiting.pop())

    def _take(self, line: bytes) -> bool:
        """File one line from the daemon; return whether it was a reply."""
        if self._answered == len(self._steps):
            return False
        step = self._steps[self._answered]
        position = len(step.queries)
        known = self._repeated.get(position)
        if step.reply is not None and known is not None and known[0] == line:
            # A refused command changes nothing, so most answers to a query are repeated.
            step.queries.append(known[1])
        else:
            message: dict[str, Any] = _decode(line)
            if "event" in message:
                # When it happened is the host's business and nothing that a client could expect.
                message.pop("timestamp", None)
                step.events.append(message)
                return False
            index = message.pop("id", None)
            if isinstance(index, int) and 0 <= index < len(self._steps):
                # By its identifier: an answer to exec-oob may overtake others.
                self._steps[index].reply = message
            elif step.reply is None:
                # The daemon could not even read the request.
                step.reply = message
            else:
                value = message.get("return")
                self._repeated[position] = (line, value)
                step.queries.append(value)
        self._advance()
        return True

    def _advance(self) -> None:
        while self._answered < len(self._steps):
            step = self._steps[self._answered]
            if step.reply is None or len(step.queries) < step.wanted:
                return
            self._answered += 1
            self._send_next()


def replay(
    daemon: StorageDaemon,
    trace: Trace,
    *,
    observe: bool = True,
    lockstep: bool = False,
    timeout: float = TIMEOUT,
) -> Replay:
    """Send a trace's commands to a daemon whose directory holds the trace's images.

    Returns an observation for each command, with the graph after it if `observe` is set. A
    daemon that dies or falls silent for `timeout` seconds is a value, not an exception; it is
    gone afterwards. Nothing is removed after the trace: see `targets.pool.Target`.
    """
    daemon.mark()
    observed = len(trace.commands) if observe else 0
    exchange = Exchange(daemon, trace.commands, observed=observed, lockstep=lockstep)
    death = exchange.finish(timeout)
    return Replay(exchange.observations(), death)
