# SPDX-License-Identifier: GPL-2.0-or-later
"""The spec's face: commands in, replies out, as a QMP monitor does.

:func:`step` is the spec itself, a pure function. :class:`Monitor` keeps a state for
those who want to talk to it as they would to QEMU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

import attrs

from model.commands import COMMANDS, guest
from model.commands.coverage import coverage_of
from model.commands.harness import DRIVING, check_driving
from model.commands.objects import check_type
from model.disks.image_files import Disk, Images
from model.disks.shutdown import CLOSES_NODES, UNFLUSHED, shut_down
from model.edits.restore import catch_up
from model.graph.sizes import check_size
from model.graph.transition import Settled, Transition
from model.jobs.lifecycle import attend
from model.jobs.sleepers import beware_of_sleepers
from model.operations.reopen import keep_options
from model.permissions.check_update import FROM_EACH, keep
from model.release import wire
from model.release.dialects import find_dialect
from model.release.rules import NOT_MODELLED, NotModelledError, Refusal, guard, outside
from model.release.schema import (
    COMMAND_NOT_FOUND,
    SchemaError,
    UnmodelledCommandError,
    answer,
    check_envelope,
)
from model.values import image_layout
from model.values.deep import ORDINARY, room_for
from model.values.state import EMPTY, BlockState, FrozenDict
from model.values.trace import Command, Json, Observation, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from model.release.dialect import Dialect
    from model.release.rules import Evaluation

T = TypeVar("T")

ENVELOPE = guard(
    "qapi.envelope",
    "A request is an object with a command, its arguments and an id, and nothing else.",
    source="7.2 (QMP)",
    text="{text}",
)
COMMAND = guard(
    "qapi.command",
    "The release has the command.",
    source="7.2 (QMP)",
    text="{text}",
)
UNMODELLED = outside(
    "qapi.unmodelled",
    "The release has the command, and so has the spec.",
    text="the command {name} is not modelled",
)
NEGOTIATION = outside(
    "qapi.unmodelled-negotiation",
    "A client asks for no capabilities of the monitor.",
    text="a monitor with the capabilities that were asked for is not modelled",
)
DEPTH = outside(
    "qapi.depth",
    "A command and the graph are such that the spec can follow to their ends.",
    text="a command that leads so deep is not modelled",
)
SHARED = outside(
    "images.shared",
    "One process has an image file open at a time.",
    text="image file {name!r}, which another monitor has open, is not modelled",
)
INPUT = {
    kind: guard(f"qapi.{kind}", sentence, source="7.2 (QAPI schema)", text="{text}")
    for kind, sentence in {
        "type": "Every value has the type that the schema gives it.",
        "missing": "No member that the schema requires is missing.",
        "unexpected": "Every member is one that the schema knows.",
        "enum": "The values of an enumeration are those that the schema lists.",
        "range": "Integers fit their type.",
        "unsigned": "Unsigned integers are numbers.",
        "alternate": "A value that may be of several types is of one of them.",
    }.items()
}


@attrs.frozen
class Outcome:
    """What a command did. ``accepted``, ``refused`` and ``hazards`` are identifiers of rules.

    ``unmodelled`` names what of the command is outside the spec: the reply is then an error of the
    class :data:`model.release.rules.NOT_MODELLED`, and says nothing about QEMU.
    After a hazard, the state is what the command should have led to. ``ended`` says that a
    real QEMU gives no reply to the command: it means to end itself. ``settling`` are the jobs that
    come to their new status, perhaps "null", only after the reply, and how far those have come
    by then that sleep.
    """

    state: BlockState
    reply: Reply
    events: tuple[dict[str, Json], ...] = ()
    accepted: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    hazards: frozenset[str] = frozenset()
    unmodelled: frozenset[str] = frozenset()
    ended: bool = False
    settling: FrozenDict[str, Settled] = EMPTY

    @property
    def ok(self) -> bool:
        """Whether the command was accepted."""
        return "return" in self.reply


_NEGOTIATE = "qmp_capabilities"
_NEGOTIATED = "Capabilities negotiation is already complete, command ignored"


def _query_version(dialect: Dialect) -> dict[str, Json]:
    """The release; the name of a distribution's package is not modelled."""
    major, minor, micro = map(int, dialect.schema.release.split("."))
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}


def _query_commands(dialect: Dialect) -> list[dict[str, Json]]:
    """The commands that the release has, by name; QEMU lists them in no particular order."""
    names = [*dialect.schema.commands, *dialect.schema.other_commands]
    return [{"name": name} for name in sorted(names)]


_ALREADY = {"class": COMMAND_NOT_FOUND, "desc": _NEGOTIATED}

_ABOUT = {"query-version": _query_version, "query-commands": _query_commands}
"""Queries about the release itself."""


def step(state: BlockState, command: Command, dialect: Dialect) -> Outcome:
    """Carry out one command. A refused one returns the same state, as far as a client can see."""
    ev = dialect.evaluation()
    t = Transition(state, ev)
    identified: Json = None
    try:
        levels = wire.check(ev, command) + len(state.nodes)
        wire.check_id(ev, command)
        identified = command
        if levels <= ORDINARY:
            return _carry_out(t, command, dialect)
        with room_for(levels):
            return _carry_out(t, command, dialect)
    except NotModelledError as end:
        return _left(state, ev, identified, end.text)
    except RecursionError:
        ev.unmodelled.add(DEPTH.id)
        return _left(state, ev, identified, DEPTH.text)


def _carry_out(t: Transition, command: Command, dialect: Dialect) -> Outcome:
    """What a command comes to that can be read. Raises ``NotModelledError``."""
    ended = False
    try:
        value = _run(t, command, dialect)
    except Refusal as refusal:
        reply: Reply = {"error": {"class": refusal.cls, "desc": refusal.text}}
        ended = refusal.rule.ends
    else:
        reply = {"return": {} if value is None else value}
        attend(t)
    catch_up(t)
    if t.ev.holds(FROM_EACH):
        keep(t)
    check_size(t)
    return attrs.evolve(_outcome(t, answer(command, reply)), ended=ended)


def _left(state: BlockState, ev: Evaluation, command: Json, text: str) -> Outcome:
    """The outcome where the spec ends: whatever was done by then is forgotten."""
    ev.refused.clear()
    reply = {"error": {"class": NOT_MODELLED, "desc": text}}
    return _outcome(Transition(state, ev), answer(command, reply))


def _outcome(t: Transition, reply: Reply) -> Outcome:
    ev = t.ev
    return Outcome(
        t.result(),
        reply,
        tuple(t.events),
        frozenset(ev.accepted),
        frozenset(ev.refused),
        frozenset(ev.hazards),
        frozenset(ev.unmodelled),
        settling=FrozenDict(t.settling) if t.settling else EMPTY,
    )


def _run(t: Transition, command: Command, dialect: Dialect) -> Any:
    ev = t.ev
    try:
        envelope = check_envelope(command)
    except SchemaError as error:
        ev.refuse(ENVELOPE, text=error.text)
        return None
    ev.accepted.add(ENVELOPE.id)
    own = DRIVING.get(envelope.name)
    if own is not None:
        check_driving(ev, envelope.name, envelope.arguments)
        with beware_of_sleepers(t, envelope.name, envelope.arguments):
            return own(t, envelope.arguments)
    try:
        arguments = dialect.schema.check(envelope.name, envelope.arguments)
    except UnmodelledCommandError:
        ev.leave(UNMODELLED, envelope.name, name=envelope.name)
    except SchemaError as error:
        rule = COMMAND if error.kind == "command" else INPUT[error.kind]
        ev.refuse(rule, cls=error.cls, text=error.text)
        return None
    if envelope.name == _NEGOTIATE:
        ev.refuse(COMMAND, cls=COMMAND_NOT_FOUND, text=_NEGOTIATED)
        return None
    ev.accepted.add(COMMAND.id)
    ev.accepted.update(rule.id for rule in INPUT.values())
    about = _ABOUT.get(envelope.name)
    if about is not None:
        return about(dialect)
    coverage = coverage_of(dialect.schema).get(envelope.name)
    if coverage is not None:
        coverage.check(ev, arguments)
        arguments = coverage.told(arguments)
    if envelope.name == "object-add":
        check_type(t, arguments, dialect.schema.objects)
    with beware_of_sleepers(t, envelope.name, arguments):
        return COMMANDS[envelope.name](t, arguments)


def reopen_keeping(
    state: BlockState, node: str, changes: Mapping[str, Any], dialect: Dialect
) -> Outcome:
    """Reopen ``node`` as QEMU does for itself (``keep_old_opts``): other options stay.

    ``changes`` are flat options (``{"read-only": True}``). No QMP command does this.
    """
    ev = dialect.evaluation()
    t = Transition(state, ev)
    try:
        keep_options(t, node, dict(changes))
    except NotModelledError as end:
        return _left(state, ev, None, end.text)
    except Refusal as refusal:
        reply: Reply = {"error": {"class": refusal.cls, "desc": refusal.text}}
    else:
        reply = {"return": {}}
    catch_up(t)
    return _outcome(t, reply)


def _negotiated(state: BlockState, command: Command, dialect: Dialect) -> Outcome:
    """The outcome of a client's first word."""
    ev = dialect.evaluation()
    if command.get("arguments", {}).get("enable"):
        ev.unmodelled.add(f"{_NEGOTIATE}.enable")
        return _left(state, ev, command, NEGOTIATION.text)
    return _outcome(Transition(state, ev), answer(command, {"return": {}}))


def _shared(state: BlockState, command: Command, dialect: Dialect, name: str) -> Outcome:
    """The outcome of opening an image file that another process has open."""
    ev = dialect.evaluation()
    ev.unmodelled.add(SHARED.id)
    return _left(state, ev, command, SHARED.text.format(name=name))


class ClosedError(Exception):
    """A monitor was asked for something after its end."""


class Monitor:
    """A QMP monitor that has a spec behind it instead of a QEMU.

    ``dialect`` is a value or the name of one; an unknown name raises
    :class:`model.release.dialect.NoSuchDialectError`. With the ``images`` of another monitor,
    both are processes beside the same image files, which each may open when the other has closed
    them.

    ``outcome`` is that of the last command, None before the first: among others, the ``hazards``
    that it met and what of it is ``unmodelled``.
    """

    def __init__(
        self, dialect: str | Dialect = "qemu-7.2", *, images: Images | None = None
    ) -> None:
        self.dialect = find_dialect(dialect) if isinstance(dialect, str) else dialect
        self._state = BlockState()
        self._disk = Disk() if images is None else images.disk
        self._disk.holders.append(self)
        self.images = Images(self.dialect, self._disk)
        self.outcome: Outcome | None = None
        self.closed = False
        self._events: list[dict[str, Json]] = []
        self._begun = False

    @property
    def state(self) -> BlockState:
        """What the process and its disk hold now."""
        if self._state.images is not self._disk.files:
            self._state = attrs.evolve(self._state, images=self._disk.files)
        return self._state

    @state.setter
    def state(self, state: BlockState) -> None:
        self._state = state
        self._disk.files = state.images

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End as the process does: jobs are cancelled, exports and devices gone, files written.

        The image files stay, for other monitors, too; this one answers no more. What was met on the
        way is told by :attr:`outcome`: the storage daemon of 5.2 ends without writing what is in a
        cache, which is not modelled, and the files are as if it had. May be called again.
        """
        if self.closed:
            return
        t = self._transition()
        text = UNFLUSHED.text
        try:
            with room_for(len(t.nodes) + ORDINARY):
                shut_down(t, closes=self.dialect.release >= CLOSES_NODES)
        except NotModelledError as end:
            text = end.text
        error = {"error": {"class": NOT_MODELLED, "desc": text}}
        outcome = _outcome(t, error if t.ev.unmodelled else {"return": {}})
        self.outcome = attrs.evolve(outcome, state=BlockState(images=outcome.state.images))
        self.state = self.outcome.state
        self._events.extend(outcome.events)
        self.closed = True
        self._disk.holders.remove(self)

    def execute(self, command: Command) -> Reply:
        """Carry out a QMP command and return its reply.

        ``qmp_capabilities`` is accepted as the first command, and needless: a monitor that has
        not been asked for anything yet does not say whether it has negotiated. :attr:`outcome`
        says what the command met. Raises :class:`ClosedError` after :meth:`close`.
        """
        self._check_open()
        before = self.state
        outcome = step(before, command, self.dialect)
        if not self._begun and outcome.reply.get("error") == _ALREADY:
            outcome = _negotiated(before, command, self.dialect)
        shared = self._disk.open_elsewhere(outcome.state, self)
        if shared is not None:
            outcome = _shared(before, command, self.dialect, shared)
        self._begun = True
        self.outcome = outcome
        self.state = outcome.state
        self._events.extend(outcome.events)
        return outcome.reply

    def events(self) -> list[dict[str, Json]]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    def observe(self) -> Observation:
        """The last reply, and what the two queries of the graph return now."""
        t = self._transition()
        return Observation(
            self.outcome.reply if self.outcome is not None else {"return": {}},
            COMMANDS["query-named-block-nodes"](t, {"flat": True}),
            COMMANDS["x-debug-query-block-graph"](t, {}),
            self.outcome.events if self.outcome is not None else (),
        )

    def read(self, node: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` as a guest reads them through a node.

        Raises :class:`model.values.image_layout.ImageError`.
        """
        self._check_open()
        image_layout.check_text("name of a node", node)
        image_layout.check_whole(offset=offset, length=length)
        if length > image_layout.MOST_READ:
            raise image_layout.ImageError(
                f"{image_layout.shown(length)} bytes are more than {image_layout.MOST_READ} at once"
            )
        # A copy-on-read filter has written what was read through it.
        return self._as_guest(lambda t: guest.read(t, node, offset, length))

    def write(self, node: str, offset: int, length: int, pattern: int) -> None:
        """Write ``length`` bytes of the value ``pattern`` as a guest would through a node.

        Raises :class:`model.values.image_layout.ImageError`.
        """
        self._check_open()
        image_layout.check_text("name of a node", node)
        image_layout.check_whole(offset=offset, length=length, pattern=pattern)
        self._as_guest(lambda t: guest.write(t, node, offset, length, pattern))

    def _as_guest(self, work: Callable[[Transition], T]) -> T:
        """Let a guest do something, as a command of its own as far as :attr:`outcome` goes."""
        t = self._transition()
        try:
            found = work(t)
        except NotModelledError as end:
            self.outcome = _left(self.state, t.ev, None, end.text)
            raise image_layout.ImageError(end.text) from None
        self.outcome = _outcome(t, {"return": {}})
        self.state = self.outcome.state
        self._events.extend(self.outcome.events)
        return found

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError("the monitor is closed; make another one with images=monitor.images")

    def _transition(self) -> Transition:
        return Transition(self.state, self.dialect.evaluation())
