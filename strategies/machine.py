# SPDX-License-Identifier: GPL-2.0-or-later
"""The state machine: one rule for each action of the table, run on the model alone.

Hypothesis picks rules (and leaves some out of an example altogether, which is what makes
rare combinations happen), the builders fill in the details from the model's state, and
the commands are executed on the model and appended to the trace. No process is touched:
targets see a trace when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from model import BlockState, Dialect, Monitor, Outcome, step
from model.commands import COMMANDS
from model.release.translation import spoken
from model.values.trace import READ, WRITE, Command, ImageSpec, Trace, waits
from strategies.actions import ACTIONS, COPYING, build
from strategies.beginning import OBJECTS, begin
from strategies.builders import certainty, guest_io
from strategies.builders.jobs import SLEEPERS
from strategies.builders.scene import Scene
from strategies.builders.situation import Situation, always, generated, only_at_first
from strategies.choices.chooser import Chooser, DrawChooser, RandomChooser
from strategies.choices.images import choose_images
from strategies.choices.weights import DARING, READ_AT_END

if TYPE_CHECKING:
    from strategies.action import Action

Details = Literal["draws", "seed"]
"""What Hypothesis sees of a command: every choice in it, or one number they all follow from."""

_CLUSTER = 65536
_SEEDS = st.integers(0, 2**64 - 1)
_SPREAD = 1_000_003

OnStep = Callable[[BlockState, Command, Outcome], None]
"""Called after every command: the state before, the command, what came of it."""

OnTrace = Callable[[Trace, tuple[Outcome, ...]], None]
"""Called when an example is complete: the trace, and the outcome of each of its commands."""


def _ignore_step(_before: BlockState, _command: Command, _outcome: Outcome) -> None:
    """Look at nothing."""


def _ignore_trace(_trace: Trace, _outcomes: tuple[Outcome, ...]) -> None:
    """Look at nothing."""


@st.composite
def _images(draw: st.DrawFn) -> tuple[ImageSpec, ...]:
    return choose_images(DrawChooser(draw))


@st.composite
def _salts(draw: st.DrawFn) -> int:
    salt = draw(_SEEDS) * _SPREAD ^ draw(_SEEDS)
    # Each start of the engine begins with the least of everything: one rule over and over.
    if salt == 0:
        reject()
    return salt


@st.composite
def _daring(draw: st.DrawFn) -> bool:
    return DrawChooser(draw).chance(DARING)


@st.composite
def _first_commands(draw: st.DrawFn, machine: ReopenMachine) -> None:
    begin(machine, machine.chooser(draw))


@st.composite
def _commands(draw: st.DrawFn, name: str) -> list[Command]:
    machine: ReopenMachine = draw(st.runner())
    return build(machine.scene(machine.chooser(draw)), name)


def _texts(value: Any) -> Iterator[str]:
    """All strings in a command."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


class ReopenMachine(RuleBasedStateMachine):
    """Writes one trace. `machine_for` makes the class for a dialect."""

    dialect: ClassVar[Dialect]
    details: ClassVar[Details] = "draws"
    on_step: ClassVar[OnStep] = staticmethod(_ignore_step)
    on_trace: ClassVar[OnTrace] = staticmethod(_ignore_trace)

    def __init__(self) -> None:
        super().__init__()
        self.state = BlockState()
        self.daring = False
        self.salt = 0
        self.choices = 0
        self.images: tuple[ImageSpec, ...] = ()
        self.commands: list[Command] = []
        self.outcomes: list[Outcome] = []
        self.situation = Situation(self.state, self.dialect)
        self.spoilt: set[str] = set()
        self.over = False

    @property
    def trace(self) -> Trace:
        """The images, and the commands so far."""
        return Trace(self.images, tuple(self.commands))

    def chooser(self, draw: st.DrawFn) -> Chooser:
        """Where the details of one command come from."""
        if self.details == "draws":
            return DrawChooser(draw)
        # Hypothesis is fond of extreme numbers, one draw in eight is 0: so the example's own
        # number and the command's place in it are mixed in.
        self.choices += 1
        return RandomChooser((draw(_SEEDS) ^ self.salt) * _SPREAD + self.choices)

    def scene(self, choose: Chooser) -> Scene:
        """What a builder sees."""
        return Scene(self.state, choose, self.dialect)

    def carry_out(self, action: str, commands: list[Command]) -> None:
        """Perform what an action has built."""
        for command in commands:
            self.perform(command)

    def perform(self, command: Command) -> None:
        """Execute a command on the model and remember it, and wait for the jobs it sets going.

        Left out is what meets a hazard, and what nobody knows the end of. A job that sleeps is
        paused at once: every drain would let it do a little more.
        """
        schema = self.dialect.schema
        command = spoken(command, schema)
        name = command.get("execute")
        if name in COMMANDS and not schema.knows(str(name)):
            # Builders know all commands of all releases.
            return
        outcome = self._execute(command)
        if outcome is None:
            return
        for wait in waits(dict(outcome.settling)):
            self._execute(wait)
        for job, (status, progress) in outcome.settling.items():
            if progress is not None and status == "running":
                pause = {"execute": "job-pause", "arguments": {"id": job}}
                paused = self._execute(pause, whatever=True)
                for wait in waits(dict(paused.settling)) if paused else ():
                    self._execute(wait)

    def _execute(self, command: Command, *, whatever: bool = False) -> Outcome | None:
        """Execute a command on the model and remember both, if it is fit for a trace.

        What must happen is remembered ``whatever`` comes of it.
        """
        before = self.state
        if self.over or not self._is_moderate(command):
            return None
        if any(generated(text) and text in before.nodes for text in _texts(command)):
            # QEMU calls that node otherwise.
            return None
        self.commands.append(command)
        outcome = step(before, command, self.dialect)
        unfit = (outcome.hazards and not self.daring) or not self._is_known(command, outcome)
        if unfit and not whatever:
            self.commands.pop()
            return None
        self.outcomes.append(outcome)
        self.state = outcome.state
        # What comes after a hazard can be compared with nothing, not even with what should be.
        self.over = bool(outcome.hazards)
        if self.state is not before:
            self.situation = Situation(self.state, self.dialect)
            self.spoilt.update(certainty.changed_behind(before, self.state))
        type(self).on_step(before, command, outcome)
        return outcome

    def _is_moderate(self, command: Command) -> bool:
        """Whether a command is done in a moment."""
        copies = command.get("execute") in COPYING
        return not copies or certainty.moderate(self.state, command, self.dialect)

    def _is_known(self, command: Command, outcome: Outcome) -> bool:
        """Whether it is certain what a command comes to: what it reads, how far a job gets."""
        before = self.state
        if outcome.unmodelled:
            return False
        if command.get("execute") in (READ, WRITE):
            if not outcome.ok:
                return True
        elif not outcome.settling and not certainty.looks(before, command):
            return True
        jobs = outcome.state.jobs.values()
        if any(job.speed and job.speed < _CLUSTER and job.type not in SLEEPERS for job in jobs):
            return False
        involved = certainty.involved(before, outcome.state, command)
        return certainty.certain(
            before, involved, self.spoilt, self.dialect
        ) and not certainty.crossed(before, outcome.state, involved)

    def teardown(self) -> None:
        """Let a guest read what there is, perhaps, and hand over the finished trace."""
        if self.commands and RandomChooser(self.salt).chance(READ_AT_END):
            for name in guest_io.on_top(self.state):
                self.perform(guest_io.read(name))
        if self.commands:
            type(self).on_trace(self.trace, tuple(self.outcomes))

    @initialize(images=_images(), data=st.data())
    def create_images(self, images: tuple[ImageSpec, ...], data: st.DataObject) -> None:
        """Lay the image files on the model's disk, and open a few chains.

        Without these, an example whose swarm lacks the rules that add would have an empty graph.
        """
        self.images = images
        monitor = Monitor(self.dialect)
        for image in images:
            monitor.images.from_spec(image)
        self.state = monitor.state
        self.situation = Situation(self.state, self.dialect)
        for command in () if self.dialect.schema.knows("object-add") else OBJECTS:
            self.perform(command)
        self.salt = data.draw(_salts())
        self.daring = data.draw(_daring())
        data.draw(_first_commands(self))


def _rule_of(action: Action) -> Callable[..., None]:
    """The machine's rule for an action."""

    def carry_out(self: ReopenMachine, commands: list[Command]) -> None:
        self.carry_out(action.name, commands)

    def is_possible(machine: ReopenMachine) -> bool:
        return action.when(machine.situation)

    carry_out.__name__, carry_out.__doc__ = action.name, action.about
    found = rule(commands=_commands(action.name))(carry_out)
    return found if action.when is always else precondition(is_possible)(found)


def machine_for(
    dialect: Dialect,
    on_step: OnStep = _ignore_step,
    on_trace: OnTrace = _ignore_trace,
    *,
    details: Details = "seed",
) -> type[ReopenMachine]:
    """The machine for a dialect.

    ``details`` says whether Hypothesis draws every choice ("draws", for what shrinks or
    fuzzes) or one seed per command ("seed", faster and as good where nothing does).

    What ``on_step`` raises makes the example fail in Hypothesis' sense; raise
    `strategies.running.Enough` from either to end a run early.
    """
    return type(
        "ReopenMachine",
        (ReopenMachine,),
        {
            **{
                name: _rule_of(action)
                for name, action in ACTIONS.items()
                if action.is_known(dialect) and action.when is not only_at_first
            },
            "dialect": dialect,
            "details": details,
            "on_step": staticmethod(on_step),
            "on_trace": staticmethod(on_trace),
        },
    )
