# SPDX-License-Identifier: GPL-2.0-or-later
"""A list of commands on its way to a daemon, and what comes back.

The daemon reads its monitor one byte at a time (3 to 4 us per byte, measured on every
release from 5.2 to 11.1), so requests are as short as they can be: no spaces, no line
ends, and an identifier only where a reply could be taken for another.

All commands are sent without waiting, up to the next that is one of ours: those need the
answers to what came before. Whatever comes back is a value: a daemon that says what is no QMP, or
more than we keep, is lost like one that dies.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from model.commands.devices import UNPLUGGED
from model.values.trace import WAIT, Command, Json, Observation, Reply, asks_for_users, name_of
from targets.daemons.answers import Answers, left_by, observations
from targets.daemons.daemon import TIMEOUT, Daemon
from targets.daemons.deaths import Death, unasked
from targets.daemons.own_commands import (
    DELETED,
    EXPORT,
    STOP_SERVER,
    Guests,
    OutOfTimeError,
    Surroundings,
    Work,
    begin,
    is_own,
    moves_nodes,
    resumed_by,
    send,
    until_drains_end,
)
from targets.wire.connection import ConnectionLostError, SilenceError
from targets.wire.messages import (
    MOST_EVENTS,
    Message,
    ProtocolError,
    TooMuchError,
    is_shown,
    quoted,
    read,
)
from targets.wire.requests import EXPORTS, GRAPH, JOBS, NODES, encode, request_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 5.0
"""Seconds that a job may take to come to the status that is waited for."""

PATIENCE_IN_ALL = 15.0
"""Seconds that all the waits of a trace which are in vain may take together. After that, each is
in vain as soon as the daemon says nothing more."""

LONGEST = 18.0
"""Seconds of listening, and of our own work, that all of a trace may take: a thousand answers that
each come in time are more than anybody waits for."""

_LEAST_PATIENCE = 0.01

_CONCERNS_SERVER = frozenset({"block-export-add", "nbd-server-start", "nbd-server-stop"})


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
        self._observe = "".join(map(encode, queries)) if observed else ""
        self._steps = [
            Answers(wanted=len(queries) if index < observed and not self._waited(index) else 0)
            for index in range(len(commands))
        ]
        self._answered = 0
        self._begun = 0
        self._repeated: dict[int, tuple[bytes, Json]] = {}
        self.statuses = dict(statuses or {})
        """The last status of each job that was heard of."""
        self._stuck: set[str] = set()
        self._failed: set[str] = set()
        self._guests = Guests()
        self._listened = 0.0
        self._started = time.monotonic()
        self._work: Work | None = None
        self._asked = 0
        self._unanswered: set[str] = set()
        self._trouble: ProtocolError | TooMuchError | None = None
        self._impatience = PATIENCE_IN_ALL
        self._events = 0
        names = {name_of(command) for command in commands}
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
        except (ProtocolError, TooMuchError) as error:
            self._trouble = error
        return self._trouble is None

    def finish(self, timeout: float = TIMEOUT) -> Death | None:
        """Read until every command is answered; return how the daemon was lost, if it was.

        `timeout` is the longest silence in seconds, without any reply, that is not a hang. Only
        the time counts in which we listened.
        """
        try:
            death = self._finish(timeout)
        except (ProtocolError, TooMuchError) as error:
            death = self._daemon.autopsy(self._answered, silent=True)
            if isinstance(error, ProtocolError) and not death.disturbed:
                return attrs.evolve(death, kind="protocol", detail=f"it says {error}")
            detail = death.detail or str(error)
            return attrs.evolve(death, kind="disturbed", detail=detail, limit=True)
        if death is None and self._daemon.was_held():
            # What came late, or not in time, may have been waited for in vain.
            return self._daemon.autopsy(0, silent=True)
        told = any(name_of(command) == "quit" for command in self._commands)
        return death if death is None or told else unasked(death)

    def _finish(self, timeout: float) -> Death | None:
        connection = self._daemon.connection
        silence, patience, begun = 0.0, 0.0, time.thread_time()
        waiting, given_up = None, False
        while not self.done:
            if self._trouble is not None:
                raise self._trouble
            if self._work is not waiting:
                waiting, given_up = self._work, False
                patience = max(_LEAST_PATIENCE, min(self._patience, self._impatience))
            impatient = waiting is not None and not given_up and patience < timeout - silence
            try:
                lines = connection.receive(patience if impatient else timeout - silence)
            except ConnectionLostError:
                return self._daemon.autopsy(self._answered, silent=False)
            except SilenceError:
                if not impatient:
                    return self._daemon.autopsy(self._answered, silent=True)
                # Once only, and what is silent then as well hangs.
                given_up, silence = True, 0.0
                self._listened += connection.listened
                self._impatience -= min(self._patience, self._impatience)
                try:
                    self._give_up()
                except OutOfTimeError:
                    # It could do nothing more: the daemon does not answer.
                    return self._daemon.autopsy(self._answered, silent=True)
                continue
            silence += connection.listened
            self._listened += connection.listened
            if waiting is not None and not given_up:
                patience -= connection.listened
            if self._take_all(lines):
                silence = 0.0
            self._check_time(begun)
        return None

    def _check_time(self, begun: float) -> None:
        """Raise TooMuchError for a trace that has taken too long, though nothing was silent.

        `begun` is when this thread began to read, by its own clock, which stands while others work.
        """
        if time.monotonic() - self._started < LONGEST:
            return
        spent = self._listened + self._guests.waited + time.thread_time() - begun
        if spent > LONGEST and not self.done:
            raise TooMuchError(f"more than {LONGEST:.0f} s for one trace")

    def observations(self) -> tuple[Observation, ...]:
        """Return what is seen of each command that was answered, up to the first that was not."""
        return tuple(observations(self._steps, self._users))

    def replies(self) -> list[Reply]:
        """Return the replies up to the first command without one."""
        return [seen.reply for seen in self.observations()]

    def events(self) -> set[str]:
        """Return the names of the events that have come."""
        return {event["event"] for step in self._steps for event in step.events}

    def _waited(self, index: int) -> bool:
        """Whether a command is followed by waiting for what it set going."""
        after = index + 1
        return after < len(self._commands) and name_of(self._commands[after]) == WAIT

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
                self._work = until_drains_end(work, command, place) if self._threads else work
                self._work_on(None)
            else:
                requests.append(request_of(command, index))
                if self._steps[index].wanted:
                    requests.append(self._observe)
        if requests:
            self._daemon.connection.send("".join(requests).encode())

    def _surroundings(self) -> Surroundings:
        own = self._daemon.nbd
        if not self._has_servers and not self._threads:
            return Surroundings(self.statuses, own, guests=self._guests)
        server, paused = left_by(self._commands[: self._answered], self._steps)
        path = None if server is None else str(self._daemon.directory / server)
        keep = not self._has_servers
        held = self._stuck, self._failed
        return Surroundings(self.statuses, own, paused, keep, path, *held, self._guests)

    def _make_way(self) -> None:
        """End our own NBD server for commands that have to do with one."""
        if self._has_servers and self._daemon.nbd.running:
            self._ask(STOP_SERVER)
            self._daemon.nbd.running = False

    def _work_on(self, message: Message | None) -> None:
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
            name = f"own{self._asked}"
            self._unanswered.add(name)
            self._daemon.connection.send(request_of(command, name).encode())

    def _worked(self, reply: Reply) -> None:
        self._work = None
        step = self._steps[self._answered]
        step.reply = reply
        if step.wanted:
            self._daemon.connection.send(self._observe.encode())
        self._advance()

    def _take_all(self, lines: list[bytes]) -> bool:
        """File lines from the daemon; return whether there was a reply among them.

        Raises ProtocolError at the first that is no QMP.
        """
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
            message = read(line)
            if "event" in message:
                self._take_event(message)
                return False
            name = message.pop("id", None)
            if isinstance(name, str) or (name is None and self._work is not None):
                self._take_own(name, message, line)
                return True
            if name is None and step.reply is not None:
                # An answer of another form than is asked for is kept whole, as no answer is.
                value = message["return"] if is_shown(message.get("return")) else message
                self._repeated[position] = (line, value)
                step.queries.append(value)
            else:
                # By its identifier: an answer to exec-oob may overtake others. There is none if
                # the daemon could not even read the request.
                number = self._answered if name is None and "error" in message else name
                self._take_reply(number, message, line)
        self._advance()
        return True

    def _take_own(self, name: str | None, message: Message, line: bytes) -> None:
        """Take an answer to a request of our own; without a name if that could not be read."""
        current = f"own{self._asked}"
        answered = current if name is None else name
        if answered not in self._unanswered:
            raise ProtocolError(f"a reply to no request: {quoted(line)}")
        self._unanswered.discard(answered)
        if answered == current:
            self._work_on(message)

    def _take_reply(self, number: object, message: Message, line: bytes) -> None:
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < self._begun:
            step = self._steps[number]
            if step.reply is None:
                step.reply = message
                return
        raise ProtocolError(f"a reply to no request: {quoted(line)}")

    def _take_event(self, message: Message) -> None:
        # When it happened is the host's business and nothing that a client could expect.
        message.pop("timestamp", None)
        name, data = message["event"], message.get("data", {})
        if name != DELETED or data.get("id") != EXPORT:
            self._steps[self._answered].events.append(message)
        job, status = data.get("id"), data.get("status")
        if name == "JOB_STATUS_CHANGE" and isinstance(job, str) and isinstance(status, str):
            self.statuses[job] = status
            self._stuck.discard(job)
        if name == "DEVICE_DELETED" and isinstance(data.get("path"), str):
            self.statuses[data["path"]] = UNPLUGGED
        if name == "BLOCK_JOB_ERROR" and data.get("action") == "stop":
            self._failed.add(str(data.get("device")))
        self._events += 1
        if self._events > MOST_EVENTS:
            raise TooMuchError(f"more than {MOST_EVENTS} events in answer to one trace")
        self._work_on(message)

    def _advance(self) -> None:
        while self._answered < len(self._steps):
            if not self._steps[self._answered].complete:
                return
            self._answered += 1
