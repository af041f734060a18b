# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends a finished trace to a storage daemon and collects what it shows.

The daemon reads its monitor one byte at a time (3 to 4 us per byte, measured on every
release from 5.2 to 11.1), so requests are as short as they can be: no spaces, no line
ends, and an identifier only where a reply could be taken for another.

All commands are sent without waiting, up to the next that is one of ours: those need the
answers to what came before.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from model.commands.devices import UNPLUGGED
from model.commands.driving import WAIT
from model.trace import Command, Json, Observation, Reply, Trace, asks_for_users
from targets.connection import ConnectionLostError, SilenceError
from targets.daemon import TIMEOUT, Daemon, Death
from targets.driving import (
    DELETED,
    EXPORT,
    STOP_SERVER,
    OutOfTimeError,
    Surroundings,
    Work,
    begin,
    is_own,
    moves_nodes,
    paused_by,
    resumed_by,
    send,
    settled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NODES: Command = {"execute": "query-named-block-nodes", "arguments": {"flat": True}}
GRAPH: Command = {"execute": "x-debug-query-block-graph"}
JOBS: Command = {"execute": "query-block-jobs"}
EXPORTS: Command = {"execute": "query-block-exports"}

PATIENCE = 5.0
"""Seconds that a job may take to come to the status that is waited for."""

# The encoder of the standard library, because a trace may hold what others refuse: numbers
# of any size and lone surrogates.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = msgspec.json.Decoder().decode


_CONCERNS_SERVER = frozenset({"block-export-add", "nbd-server-start", "nbd-server-stop"})
_UNSEEN: tuple[Json, ...] = (None, None)


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
    """A list of commands on its way: sent as early as can be, read when it suits.

    The daemon works while the caller does something else; `finish` reads the answers.
    """

    def __init__(
        self,
        daemon: Daemon,
        commands: Sequence[Command],
        *,
        observed: int,
        lockstep: bool = False,
        patience: float = PATIENCE,
        statuses: Mapping[str, str] | None = None,
    ) -> None:
        """Send the commands, each of the first `observed` followed by the queries.

        Those are two, and two more where there are jobs or exports to ask for. A command that
        is followed by waiting for what it sets going is not observed: anything may be seen then.
        With `lockstep` each command waits for the answers to the one before, so that a death
        is charged to the right one even if replies are lost with the process; so it does where
        jobs may be in other threads. `patience` is how
        many seconds a job may take to come to the status that is waited for, and `statuses` are
        those that jobs have from before.
        """
        self._daemon = daemon
        self._commands = commands
        self._lockstep = lockstep
        self._patience = patience
        jobs, exports = asks_for_users(commands[:observed])
        self._users = [*["jobs"] * jobs, *["exports"] * exports]
        queries = [NODES, GRAPH, *[JOBS] * jobs, *[EXPORTS] * exports]
        self._observe = "".join(map(_encode, queries)) if observed else ""
        self._steps = [
            _Step(wanted=len(queries) if index < observed and not self._waited(index) else 0)
            for index in range(len(commands))
        ]
        self._answered = 0
        self._begun = 0
        self._repeated: dict[int, tuple[bytes, Json]] = {}
        self.statuses = dict(statuses or {})
        """The last status of each job that was heard of."""
        self._stuck: set[str] = set()
        self._failed: set[str] = set()
        self._work: Work | None = None
        self._asked = 0
        names = {str(command.get("execute")) for command in commands}
        daemon.may_quit = "quit" in names
        self._has_servers = not names.isdisjoint(_CONCERNS_SERVER)
        self._threads = jobs and moves_nodes(commands[:observed])
        self._make_way()
        self._go_on()

    @property
    def answered(self) -> int:
        """How many commands have all their answers, counted from the first."""
        return self._answered

    @property
    def done(self) -> bool:
        """Whether every command is answered."""
        return self._answered == len(self._steps)

    def go_on(self) -> bool:
        """Take what has arrived, without waiting, and go on; False if the daemon is gone."""
        try:
            self._take_all(self._daemon.connection.available())
        except ConnectionLostError:
            return False
        return True

    def finish(self, timeout: float = TIMEOUT) -> Death | None:
        """Read until every command is answered; return how the daemon died, if it did.

        `timeout` is the longest silence in seconds, without any reply, that is not a hang.
        """
        deadline = time.monotonic() + timeout
        waiting, give_up = self._work, time.monotonic() + self._patience
        while not self.done:
            if self._work is not waiting:
                waiting, give_up = self._work, time.monotonic() + self._patience
            end = deadline if waiting is None else min(deadline, give_up)
            try:
                lines = self._daemon.connection.receive(end - time.monotonic())
            except ConnectionLostError:
                return self._daemon.autopsy(self._answered, silent=False)
            except SilenceError:
                if end == deadline:
                    return self._daemon.autopsy(self._answered, silent=True)
                # Once only, and what is silent then as well hangs.
                deadline = time.monotonic() + timeout
                give_up = deadline + timeout
                try:
                    self._give_up()
                except OutOfTimeError:
                    # It could do nothing more: the daemon does not answer.
                    return self._daemon.autopsy(self._answered, silent=True)
                continue
            if self._take_all(lines):
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
            nodes, graph, *users = (*step.queries, *_UNSEEN[len(step.queries) :])
            observation = Observation(step.reply, nodes, graph, tuple(step.events))
            if users:
                answers = dict(zip(self._users, users, strict=False))
                observation = attrs.evolve(observation, **answers)
            found.append(observation)
        return tuple(found)

    def replies(self) -> list[Reply]:
        """Return the replies up to the first command without one."""
        found = []
        for step in self._steps:
            if step.reply is None:
                break
            found.append(step.reply)
        return found

    def events(self) -> set[str]:
        """Return the names of the events that have come."""
        return {str(event["event"]) for step in self._steps for event in step.events}

    def _waited(self, index: int) -> bool:
        """Whether a command is followed by waiting for what it set going."""
        after = index + 1
        return after < len(self._commands) and self._commands[after].get("execute") == WAIT

    def _go_on(self) -> None:
        """Send what can be sent, and begin with a command of ours whose turn has come."""
        requests = []
        while self._begun < len(self._commands) and self._work is None:
            index = self._begun
            command = self._commands[index]
            own = is_own(command)
            if self._answered < index and (own or self._lockstep or self._threads):
                break
            self._begun += 1
            settles = self._steps[index].wanted or resumed_by(command) is not None
            if own or (self._threads and settles):
                place = self._surroundings()
                work = begin(command, place) if own else send(command)
                self._work = settled(work, command, place) if self._threads else work
                self._work_on(None)
            else:
                requests.append(_encode({**command, "id": index}))
                if self._steps[index].wanted:
                    requests.append(self._observe)
        if requests:
            self._daemon.connection.send("".join(requests).encode())

    def _surroundings(self) -> Surroundings:
        own = self._daemon.nbd
        server, paused = None, frozenset[str]()
        if not self._has_servers and not self._threads:
            return Surroundings(self.statuses, own)
        for command, step in zip(self._commands[: self._answered], self._steps, strict=False):
            name = command.get("execute")
            if step.reply is None or "return" not in step.reply:
                continue
            paused = paused_by(command, paused)
            if name == "nbd-server-start":
                server = _path(command)
            elif name == "nbd-server-stop":
                server = None
        path = None if server is None else str(self._daemon.directory / server)
        keep = not self._has_servers
        return Surroundings(self.statuses, own, paused, keep, path, self._stuck, self._failed)

    def _make_way(self) -> None:
        """End our own NBD server for commands that have to do with one."""
        if self._has_servers and self._daemon.nbd.running:
            self._ask(STOP_SERVER)
            self._daemon.nbd.running = False

    def _work_on(self, message: dict[str, Any] | None) -> None:
        """Hand a message to the command of ours, and send what it wants to be sent."""
        work = self._work
        if work is None:
            return
        try:
            command = next(work) if message is None else work.send(message)
        except StopIteration as done:
            self._worked(done.value)
        else:
            self._ask(command)

    def _give_up(self) -> None:
        """Tell the command of ours that it has waited for long enough."""
        if self._work is not None:
            try:
                command = self._work.throw(OutOfTimeError)
            except StopIteration as done:
                self._worked(done.value)
                self._go_on()
            else:
                self._ask(command)

    def _ask(self, command: Command | None) -> None:
        if command is not None:
            self._asked += 1
            request = _encode({**command, "id": f"own{self._asked}"})
            self._daemon.connection.send(request.encode())

    def _worked(self, reply: Reply) -> None:
        self._work = None
        step = self._steps[self._answered]
        step.reply = reply
        if step.wanted:
            self._daemon.connection.send(self._observe.encode())
        self._advance()

    def _take_all(self, lines: list[bytes]) -> bool:
        """File lines from the daemon; return whether there was a reply among them."""
        replied = False
        for line in lines:
            if self._answered == len(self._steps):
                break
            replied = self._take(line) or replied
        self._go_on()
        return replied

    def _take(self, line: bytes) -> bool:
        """File one line from the daemon; return whether it was a reply."""
        step = self._steps[self._answered]
        position = len(step.queries)
        known = self._repeated.get(position)
        if step.reply is not None and known is not None and known[0] == line:
            # A refused command changes nothing, so most answers to a query are repeated.
            step.queries.append(known[1])
        else:
            message: dict[str, Any] = _decode(line)
            if "event" in message:
                self._take_event(message)
                return False
            index = message.pop("id", None)
            if isinstance(index, str) or self._work is not None:
                # Without an identifier, if the request could not even be read.
                if index in {None, f"own{self._asked}"}:
                    self._work_on(message)
                return True
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

    def _take_event(self, message: dict[str, Any]) -> None:
        # When it happened is the host's business and nothing that a client could expect.
        message.pop("timestamp", None)
        data = message.get("data", {})
        if message["event"] != DELETED or data.get("id") != EXPORT:
            self._steps[self._answered].events.append(message)
        if message["event"] == "JOB_STATUS_CHANGE":
            self.statuses[data["id"]] = data["status"]
            self._stuck.discard(data["id"])
        if message["event"] == "DEVICE_DELETED":
            self.statuses[data["path"]] = UNPLUGGED
        if message["event"] == "BLOCK_JOB_ERROR" and data["action"] == "stop":
            self._failed.add(data["device"])
        self._work_on(message)

    def _advance(self) -> None:
        while self._answered < len(self._steps):
            step = self._steps[self._answered]
            if step.reply is None or len(step.queries) < step.wanted:
                return
            self._answered += 1


def _path(command: Command) -> str | None:
    """The path of the Unix socket on which a command lets the NBD server listen."""
    with suppress(KeyError, TypeError):
        return str(command["arguments"]["addr"]["data"]["path"])
    return None


def replay(
    daemon: Daemon,
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
