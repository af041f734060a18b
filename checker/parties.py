# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is compared: the model in a dialect, or a real storage daemon. Both are asked the same way.

A trace is plain here: it has no waits. How it is written for a party, with the waits that it needs
there, is decided in one place (:func:`written_for`), and what a party shows during its waits counts
for the command that set the jobs going. So two parties can be asked the same though they have to be
waited for differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
from model.release.dialect import WITHOUT, NoSuchDialectError
from model.release.dialects import DIALECTS, find_dialect
from model.release.translation import spoken, translated
from model.values.trace import Observation, Trace

from checker import doctor as doctoring
from checker.compare import Renaming, compare_step
from checker.errors import CheckerError
from checker.judge import is_outside
from checker.oracle import expect
from checker.settling import is_wait, settled, through
from checker.verdicts import undisturbed
from targets.binaries import ALL, find_qemu_img, find_qemu_io
from targets.closing import Closing
from targets.debian import find_build
from targets.errors import TargetError
from targets.pool import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model.release.dialect import Dialect

    from checker.judge import Expectation
    from targets.binaries import Build
    from targets.replay import Replay
    from targets.walls import Walls

NOT_IN_SPEC = "what {dialect} does not say"
"""What is told instead of a rule where a daemon does other than the model of its dialect."""

_TIMEOUT = 5.0
"""Seconds of silence after which a daemon hangs."""


@attrs.frozen
class Answer:
    """What a party says of one command.

    ``rule`` is what decided (the rule that refused, or "accepted"), ``accepted`` the rules that had
    a say in it, and ``hazards`` are the defects that the model knows there. ``death`` says how the
    party ended itself, or died; there are no answers after that. ``unmodelled`` names what is
    outside the spec there: then it says nothing.
    """

    observation: Observation
    rule: str
    accepted: frozenset[str] = frozenset()
    hazards: frozenset[str] = frozenset()
    death: str = ""
    unmodelled: frozenset[str] = frozenset()


class Party(Protocol):
    """One of the two that are compared."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def dialect(self) -> Dialect:
        """The dialect of the model, or the nearest one to a daemon."""

    @property
    def real(self) -> bool:
        """Whether it is a daemon."""

    def ask(self, trace: Trace, *, fresh: bool = False) -> tuple[Answer, ...]:
        """What it says of each command of a plain trace; ``fresh``: on a new process."""

    def observe(self, written: Trace) -> tuple[Observation, ...]:
        """What it shows of each step of a trace that has its waits."""

    def close(self) -> None:
        """Leave nothing running."""


def plain(trace: Trace, *dialects: Dialect) -> Trace:
    """The trace without its waits, in words that have a counterpart in each of the dialects.

    Objects that one of them has from its start are there from the start for all.
    """
    commands = tuple(command for command in trace.commands if not is_wait(command))
    trace = attrs.evolve(trace, commands=commands)
    for dialect in dialects:
        if not dialect.schema.knows("object-add"):
            trace = translated(trace, dialect.schema)
    for dialect in dialects:
        if dialect.schema.knows("blockdev-reopen"):
            return said(trace, dialect)
    return trace


def said(trace: Trace, dialect: Dialect) -> Trace:
    """The trace with each command as the dialect has it, one for one."""
    commands = tuple(spoken(command, dialect.schema) for command in trace.commands)
    return attrs.evolve(trace, commands=commands)


def written_for(trace: Trace, dialect: Dialect) -> Trace:
    """A plain trace as it is sent to a daemon that speaks a dialect."""
    return settled(trace, dialect)


def folded(written: Trace, shown: Sequence[Observation]) -> Iterator[Observation]:
    """One observation for each command: its reply, and what was seen when it was waited for.

    A command whose waits were not all answered has none.
    """
    number = 0
    while number < len(written.commands):
        end = through(written.commands, number)
        if end > len(shown):
            return
        steps = shown[number:end]
        if len(steps) == 1:
            yield steps[0]
        else:
            events = tuple(event for step in steps for event in step.events)
            yield attrs.evolve(steps[-1], reply=steps[0].reply, events=events)
        number = end


@attrs.frozen
class Model:
    """The model in a dialect."""

    dialect: Dialect

    @property
    def name(self) -> str:
        """The dialect's."""
        return self.dialect.name

    @property
    def real(self) -> bool:
        """It is none."""
        return False

    @property
    def release(self) -> str | None:
        """The release whose builds should do just the same, None if there is none."""
        if DIALECTS.get(self.dialect.name) is not self.dialect:
            return None
        return ".".join(map(str, self.dialect.release))

    def ask(self, trace: Trace, *, fresh: bool = False) -> tuple[Answer, ...]:
        """What the model says; it needs no waits."""
        return tuple(_by_model(each) for each in expect(said(trace, self.dialect), self.dialect))

    def observe(self, written: Trace) -> tuple[Observation, ...]:
        """What the model shows of each step."""
        expected = expect(said(written, self.dialect), self.dialect)
        return tuple(each.observation for each in expected)

    def close(self) -> None:
        """Nothing runs."""


def _by_model(each: Expectation) -> Answer:
    death = "exit" if each.ended else ""
    return Answer(each.observation, each.rule, each.accepted, each.hazards, death, each.unmodelled)


class Daemon(Closing):
    """A build of QEMU beside the model that is nearest to it, which names the rules.

    A context manager. The daemon is kept from one trace to the next; ``name`` is the build's
    version unless it is given.
    """

    real = True

    def __init__(self, build: Build, name: str = "") -> None:
        self.build = build
        self.name = name or build.version
        self.dialect, self.note = doctoring.dialect_for(build)
        self._target = Target(build, timeout=_TIMEOUT)
        self._run = undisturbed(self._target.run)
        self._confirm = undisturbed(self._target.confirm)

    def ask(self, trace: Trace, *, fresh: bool = False) -> tuple[Answer, ...]:
        """What the daemon says, up to its death.

        What the dialect knows as a defect is not tried: it may take any time to show, and leave
        anything behind. Neither is what the dialect does not know: nobody can say what to wait
        for then. There the last answer is the model's.
        """
        expected = expect(said(trace, self.dialect), self.dialect)
        stops = (n for n, each in enumerate(expected) if each.hazards or each.unmodelled)
        bad = next(stops, len(expected))
        sound = attrs.evolve(trace, commands=trace.commands[:bad])
        written = written_for(sound, self.dialect)
        replay = (self._confirm if fresh else self._run)(written)
        answers = [
            self._answer(shown, model)
            for shown, model in zip(folded(written, replay.observations), expected, strict=False)
        ]
        if len(answers) < bad:
            return (*answers, *self._death(replay, expected[len(answers)]))
        return (*answers, *map(_by_model, expected[bad : bad + 1]))

    def observe(self, written: Trace) -> tuple[Observation, ...]:
        """What a new process shows of each step, up to its death."""
        return self.replay(said(written, self.dialect)).observations

    def replay(self, written: Trace) -> Replay:
        """What a new process does with a trace that has its waits."""
        return self._confirm(written)

    def close(self) -> None:
        """End the daemon."""
        self._target.close()

    def _answer(self, shown: Observation, model: Expectation) -> Answer:
        """An answer with the rules of the model, if that says the same to the client."""
        if is_outside(shown):
            return Answer(shown, model.rule, unmodelled=frozenset({"what can be driven"}))
        names = Renaming()
        reply = Observation(shown.reply, None, None)
        if compare_step(Observation(model.observation.reply, None, None), reply, names) is None:
            return Answer(shown, model.rule, model.accepted)
        return Answer(shown, NOT_IN_SPEC.format(dialect=self.dialect.name))

    def _death(self, replay: Replay, model: Expectation) -> tuple[Answer, ...]:
        """The last answer of a daemon that died on the way."""
        death = replay.death
        if death is None:
            return ()
        how = death.kind if death.signal is None else f"{death.kind} ({death.signal})"
        return (Answer(model.observation, model.rule, death=how),)


def find_party(name: str, walls: Walls = ALL) -> Model | Daemon:
    """The party that a name stands for: a dialect, or a build as ``--qemu`` takes it.

    A build runs behind `walls`.

    A dialect's name goes first. Raises CheckerError, in one line, where it is neither.
    """
    try:
        return Model(find_dialect(name))
    except NoSuchDialectError as error:
        if WITHOUT in name:
            raise
        unknown = error
    try:
        build = find_build(name, walls)
    except TargetError as error:
        raise CheckerError(f"{unknown}; and no build: {error}") from None
    find_qemu_img(walls=walls)
    find_qemu_io(walls=walls)
    return Daemon(build)
