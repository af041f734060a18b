# SPDX-License-Identifier: GPL-2.0-or-later
"""The state machine: one rule per kind of QMP command, run on the model alone.

Hypothesis picks rules (and leaves some out of an example altogether, which is what makes
rare combinations happen), the builders fill in the details from the model's state, and
the command is executed on the model and appended to the trace. No process is touched:
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
from model.commands.driving import OBJECT, READ, WRITE, waits
from model.speaking import spoken
from model.state import IOThread
from model.trace import Command, ImageSpec, Trace
from strategies.actions import build, build_malformed
from strategies.builders import guest_io
from strategies.builders.exports import server_start, whereabouts
from strategies.builders.graph_commands import is_overlay
from strategies.builders.jobs import TAKES
from strategies.builders.scene import Scene, describable, generated
from strategies.choices.chooser import Chooser, DrawChooser, RandomChooser
from strategies.choices.images import choose_images
from strategies.choices.weights import (
    DARING,
    FIRST_CORNER,
    FIRST_DEVICES,
    FIRST_JOB,
    FIRST_SERVER,
    MOST_DEVICES,
    MOST_EXPORTS,
    MOST_FIRST,
    MOST_JOBS,
    MOST_NODES,
    MOST_OBJECTS,
    NEAR_VALID,
    READ_AT_END,
    WRONG_FIRST,
)
from strategies.scenarios import graph, iothreads
from strategies.scenarios import jobs as job_scenarios

if TYPE_CHECKING:
    from model.state import Node

Details = Literal["draws", "seed"]
"""What Hypothesis sees of a command: every choice in it, or one number they all follow from."""

_CLUSTER = 65536
_SEEDS = st.integers(0, 2**64 - 1)
_SPREAD = 1_000_003

OnStep = Callable[[BlockState, Command, Outcome], None]
"""Called after every command: the state before, the command, what came of it."""

OnTrace = Callable[[Trace, tuple[Outcome, ...]], None]
"""Called when an example is complete: the trace, and the outcome of each of its commands."""


_FIRST = (
    "add_chain",
    "add_chain",
    "add_protocol",
    "add_filter",
    "add_throttle_group",
    "add_iothread",
)
_NO_OBJECTS = 4
"""So many of these make no objects."""
_FIRST_DEVICES = ("add_iothread", "add_controller", "add_chain", "add_disk", "add_disk")
"""What gets an example disks. Some do without the first."""
_FIRST_JOBS: dict[str, tuple[str, ...]] = {
    "commit": ("add_tower",),
    "active_commit": ("add_tower",),
    "stream": ("add_tower",),
    "mirror": ("add_tower", "add_chain", "add_chain"),
    "backup": ("add_tower", "add_chain", "add_chain"),
}
"""What an example may begin with: a job, and what is to be there before."""
OBJECTS: tuple[Command, ...] = tuple(
    {"execute": OBJECT, "arguments": arguments}
    for arguments in (
        {"qom-type": "throttle-group", "id": "tg0"},
        {"qom-type": "throttle-group", "id": "tg1", "x-iops-total": 10**9},
        {"qom-type": "iothread", "id": "io0"},
        {"qom-type": "iothread", "id": "io1"},
    )
)
"""What an example begins with where the release cannot make objects later."""
_CORNERS = (
    graph.put_back,
    graph.forgotten_access,
    graph.left_dirty,
    graph.stuck_preallocation,
    graph.told_backing,
    *job_scenarios.CHAIN_CORNERS,
    *job_scenarios.MIRROR_CORNERS,
    *job_scenarios.FILTER_CORNERS,
    *iothreads.THREAD_CORNERS,
)
"""The corners that an example may begin on the way to."""
_WRONG = 200
"""Surely wrong: where a builder chooses the command, too, half of that counts."""
_STEPS = 10
"""So many lead into any of them."""
_SLEEPERS = ("commit", "stream")
"""The types of jobs that sleep where one knows: the others are never limited to a rate."""


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
    choose = machine.chooser(draw)
    if choose.chance(FIRST_CORNER):
        _into_a_corner(machine, choose)
    else:
        _some_of_each(machine, choose)
    machine.furnish(choose)


def _some_of_each(machine: ReopenMachine, choose: Chooser) -> None:
    """Nodes and objects, exports perhaps, and perhaps a job."""
    first = _FIRST if machine.makes_objects else _FIRST[:_NO_OBJECTS]
    for _ in range(choose.integer(0, MOST_FIRST)):
        machine.begin(choose, choose.one_of(first), NEAR_VALID)
    if choose.chance(FIRST_SERVER):
        machine.perform(server_start())
        for near_valid in (_WRONG, 0, _WRONG) if machine.named else ():
            machine.begin(choose, "add_export", near_valid)
    if choose.chance(FIRST_JOB):
        job = choose.one_of(list(_FIRST_JOBS))
        for kind in _FIRST_JOBS[job]:
            machine.begin(choose, kind, 0)
        for near_valid in (*(_WRONG,) * WRONG_FIRST, 0):
            machine.begin(choose, job, near_valid)


def _into_a_corner(machine: ReopenMachine, choose: Chooser) -> None:
    """Some steps from an empty graph, or from a chain where the first of them needs one."""
    way = choose.one_of(_CORNERS)
    for _ in range(_STEPS):
        scene = machine.scene(choose)
        command = way(scene)
        if not _has_some_room(machine) or (command is None and machine.state.nodes):
            return
        machine.perform(command or build(scene, "add_tower", near_valid=0))


@st.composite
def _command(draw: st.DrawFn, kind: str) -> Command:
    machine: ReopenMachine = draw(st.runner())
    scene = machine.scene(machine.chooser(draw))
    whole = _WHOLE.get(kind)
    return build(scene, kind) if whole is None else whole(scene)


def _texts(value: Any) -> Iterator[str]:
    """All strings in a command."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


@st.composite
def _whereabouts(draw: st.DrawFn) -> list[Command]:
    machine: ReopenMachine = draw(st.runner())
    return whereabouts(machine.scene(machine.chooser(draw)))


_WHOLE: dict[str, Callable[[Scene], Command]] = {
    "corner": graph.corner,
    "chain_corner": job_scenarios.any_of(*job_scenarios.CHAIN_CORNERS),
    "mirror_corner": job_scenarios.any_of(*job_scenarios.MIRROR_CORNERS),
    "filter_corner": job_scenarios.any_of(*job_scenarios.FILTER_CORNERS),
    "thread_corner": job_scenarios.any_of(*iothreads.THREAD_CORNERS),
    "malformed": build_malformed,
}
"""What sends commands in which nothing else is made wrong."""


def _has_node(*drivers: str) -> Callable[[Any], bool]:
    """Precondition: there is a node to refer to, of one of ``drivers`` if any are given."""

    def there_is(machine: ReopenMachine) -> bool:
        return any(not drivers or node.driver in drivers for node in machine.named)

    return there_is


def _has_overlay(machine: ReopenMachine) -> bool:
    """Precondition: a snapshot could succeed."""
    return len(machine.named) > 1 and any(is_overlay(node) for node in machine.named)


def _has_room(machine: ReopenMachine) -> bool:
    """Precondition: the graph is small enough to add to."""
    return len(machine.state.nodes) <= MOST_NODES


def _has_some_room(machine: ReopenMachine) -> bool:
    """Precondition: the graph is small enough for one node more on the way into a corner."""
    return len(machine.state.nodes) <= MOST_NODES + 3


def _has_room_for_a_tower(machine: ReopenMachine) -> bool:
    """Precondition: the graph is small enough to add several images to at once."""
    return len(machine.state.nodes) <= MOST_NODES // 2


def _has_room_for_objects(machine: ReopenMachine) -> bool:
    """Precondition: objects can be made, and there are few enough."""
    return machine.makes_objects and len(machine.state.objects) <= MOST_OBJECTS


def _has_objects(machine: ReopenMachine) -> bool:
    """Precondition: there is an object."""
    return bool(machine.state.objects)


def _has_jobs(machine: ReopenMachine) -> bool:
    """Precondition: there is a job."""
    return bool(machine.state.jobs)


def _takes(verb: str) -> Callable[[Any], bool]:
    """Precondition: there is a job whose state takes a verb."""

    def there_is(machine: ReopenMachine) -> bool:
        return any(verb in TAKES.get(job.status, ()) for job in machine.state.jobs.values())

    return there_is


def _has_frozen(machine: ReopenMachine) -> bool:
    """Precondition: some link is frozen."""
    return any(link.frozen for node in machine.named for link in node.children)


def _has_chain(machine: ReopenMachine) -> bool:
    """Precondition: there are few enough jobs, and a chain of backing files to work on."""
    return len(machine.state.jobs) < MOST_JOBS and any(
        node.driver == "qcow2" and node.link("backing") is not None for node in machine.named
    )


def _has_long_chain(machine: ReopenMachine) -> bool:
    """Precondition: there are few enough jobs, and a backing file that has one itself."""
    if len(machine.state.jobs) >= MOST_JOBS:
        return False
    nodes = machine.state.nodes
    backing = [link for node in machine.named if (link := node.link("backing"))]
    return any(nodes[link.child].link("backing") is not None for link in backing)


def _has_pair(machine: ReopenMachine) -> bool:
    """Precondition: there are few enough jobs, and two nodes on top, to copy one to the other."""
    if len(machine.state.jobs) >= MOST_JOBS:
        return False
    return sum(node.driver != "file" and not node.parents for node in machine.named) > 1


def _has_room_for_exports(machine: ReopenMachine) -> bool:
    """Precondition: there are few enough exports, and a node to export."""
    return len(machine.state.exports) < MOST_EXPORTS and bool(machine.named)


def _has_exports(machine: ReopenMachine) -> bool:
    """Precondition: there is an export."""
    return bool(machine.state.exports)


def _has_threads_and_room(machine: ReopenMachine) -> bool:
    """Precondition: there is an iothread, and few enough exports to add one."""
    return len(machine.state.exports) < MOST_EXPORTS and _has_threads(machine)


def _has_room_for_devices(machine: ReopenMachine) -> bool:
    """Precondition: there are few enough devices, and a node for one more."""
    return len(machine.state.devices) < MOST_DEVICES and bool(machine.named)


def _has_devices(machine: ReopenMachine) -> bool:
    """Precondition: there is a device."""
    return bool(machine.state.devices)


def _has_threads(machine: ReopenMachine) -> bool:
    """Precondition: there is an iothread, and a node to move."""
    return bool(machine.named) and any(
        isinstance(each, IOThread) for each in machine.state.objects.values()
    )


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
        self.named: tuple[Node, ...] = ()
        self.spoilt: set[str] = set()
        self.over = False

    @property
    def makes_objects(self) -> bool:
        """Whether the release makes objects at a client's command."""
        return self.dialect.schema.knows("object-add")

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

    def begin(self, choose: Chooser, kind: str, near_valid: int) -> None:
        """One of the commands that an example begins with, wrong in ``near_valid`` of 100 cases."""
        self.perform(build(self.scene(choose), kind, near_valid=near_valid))

    def furnish(self, choose: Chooser) -> None:
        """Whatever else an example begins with."""

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
        if self.over or not guest_io.moderate(before, command, self.dialect):
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
            self.named = tuple(node for node in self.state.nodes.values() if describable(node))
            self.spoilt.update(guest_io.changed_behind(before, self.state))
        type(self).on_step(before, command, outcome)
        return outcome

    def _is_known(self, command: Command, outcome: Outcome) -> bool:
        """Whether it is certain what a command comes to: what it reads, how far a job gets."""
        before = self.state
        if outcome.unmodelled:
            return False
        if command.get("execute") in (READ, WRITE):
            if not outcome.ok:
                return True
        elif not outcome.settling and not guest_io.looks(before, command):
            return True
        jobs = outcome.state.jobs.values()
        if any(job.speed and job.speed < _CLUSTER and job.type not in _SLEEPERS for job in jobs):
            return False
        involved = guest_io.involved(before, outcome.state, command)
        return guest_io.certain(
            before, involved, self.spoilt, self.dialect
        ) and not guest_io.crossed(before, outcome.state, involved)

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
        for command in () if self.makes_objects else OBJECTS:
            self.perform(command)
        self.salt = data.draw(_salts())
        self.daring = data.draw(_daring())
        data.draw(_first_commands(self))

    @precondition(_has_room)
    @rule(command=_command("add_protocol"))
    def add_protocol(self, command: Command) -> None:
        """blockdev-add: a node without children."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("add_chain"))
    def add_chain(self, command: Command) -> None:
        """blockdev-add: a format node with everything below it inline."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("add_format"))
    def add_format(self, command: Command) -> None:
        """blockdev-add: a format node over an existing one."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("add_filter"))
    def add_filter(self, command: Command) -> None:
        """blockdev-add: a filter or blkdebug over an existing node."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("add_quorum"))
    def add_quorum(self, command: Command) -> None:
        """blockdev-add: a quorum."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("add_blkverify"))
    def add_blkverify(self, command: Command) -> None:
        """blockdev-add: a blkverify."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("delete"))
    def delete(self, command: Command) -> None:
        """blockdev-del."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("reopen_options"))
    def reopen_options(self, command: Command) -> None:
        """blockdev-reopen: other options of one node."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("reopen_as_it_is"))
    def reopen_as_it_is(self, command: Command) -> None:
        """blockdev-reopen: one node, unchanged."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("reopen_less"))
    def reopen_less(self, command: Command) -> None:
        """blockdev-reopen: options left out."""
        self.perform(command)

    @precondition(_has_node("qcow2"))
    @rule(command=_command("reopen_backing"))
    def reopen_backing(self, command: Command) -> None:
        """blockdev-reopen: another backing file."""
        self.perform(command)

    @precondition(_has_node("qcow2", "raw", "throttle", "preallocate", "copy-on-read", "compress"))
    @rule(command=_command("reopen_file"))
    def reopen_file(self, command: Command) -> None:
        """blockdev-reopen: another file."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("reopen_several"))
    def reopen_several(self, command: Command) -> None:
        """blockdev-reopen: several nodes in one transaction."""
        self.perform(command)

    @precondition(_has_node("qcow2"))
    @rule(command=_command("reopen_swap"))
    def reopen_swap(self, command: Command) -> None:
        """blockdev-reopen: the backing files of two nodes."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("reopen_children"))
    def reopen_children(self, command: Command) -> None:
        """blockdev-reopen: children described inline."""
        self.perform(command)

    @precondition(_has_overlay)
    @rule(command=_command("snapshot"))
    def snapshot(self, command: Command) -> None:
        """blockdev-snapshot."""
        self.perform(command)

    @precondition(_has_node("quorum"))
    @rule(command=_command("change_quorum"))
    def change_quorum(self, command: Command) -> None:
        """x-blockdev-change."""
        self.perform(command)

    @precondition(_has_room_for_objects)
    @rule(command=_command("add_throttle_group"))
    def add_throttle_group(self, command: Command) -> None:
        """object-add of a throttle group."""
        self.perform(command)

    @precondition(_has_room_for_objects)
    @rule(command=_command("add_iothread"))
    def add_iothread(self, command: Command) -> None:
        """object-add of an iothread."""
        self.perform(command)

    @precondition(_has_objects)
    @rule(command=_command("delete_object"))
    def delete_object(self, command: Command) -> None:
        """object-del."""
        self.perform(command)

    @precondition(_has_node("qcow2", "file", "raw"))
    @rule(command=_command("resize"))
    def resize(self, command: Command) -> None:
        """block_resize."""
        self.perform(command)

    @precondition(_has_room_for_a_tower)
    @rule(command=_command("add_tower"))
    def add_tower(self, command: Command) -> None:
        """blockdev-add: a chain of several images."""
        self.perform(command)

    @precondition(_has_jobs)
    @precondition(_has_node())
    @rule(command=_command("reopen_busy"))
    def reopen_busy(self, command: Command) -> None:
        """blockdev-reopen: a node that a job works on, or a link that it has frozen."""
        self.perform(command)

    @precondition(_has_frozen)
    @rule(command=_command("reopen_frozen"))
    def reopen_frozen(self, command: Command) -> None:
        """blockdev-reopen: another child behind a frozen link."""
        self.perform(command)

    @precondition(_has_long_chain)
    @rule(command=_command("commit"))
    def commit(self, command: Command) -> None:
        """block-commit: the middle of a chain."""
        self.perform(command)

    @precondition(_has_chain)
    @rule(command=_command("active_commit"))
    def active_commit(self, command: Command) -> None:
        """block-commit: the top of a chain."""
        self.perform(command)

    @precondition(_has_chain)
    @rule(command=_command("stream"))
    def stream(self, command: Command) -> None:
        """block-stream."""
        self.perform(command)

    @precondition(_has_pair)
    @rule(command=_command("mirror"))
    def mirror(self, command: Command) -> None:
        """blockdev-mirror."""
        self.perform(command)

    @precondition(_has_pair)
    @rule(command=_command("backup"))
    def backup(self, command: Command) -> None:
        """blockdev-backup."""
        self.perform(command)

    @precondition(_has_jobs)
    @rule(command=_command("job_verb"))
    def job_verb(self, command: Command) -> None:
        """job-* or block-job-*: any verb."""
        self.perform(command)

    @precondition(_takes("cancel"))
    @rule(command=_command("job_cancel"))
    def job_cancel(self, command: Command) -> None:
        """job-cancel or block-job-cancel."""
        self.perform(command)

    @precondition(_takes("pause"))
    @rule(command=_command("job_pause"))
    def job_pause(self, command: Command) -> None:
        """job-pause or block-job-pause."""
        self.perform(command)

    @precondition(_takes("resume"))
    @rule(command=_command("job_resume"))
    def job_resume(self, command: Command) -> None:
        """job-resume or block-job-resume."""
        self.perform(command)

    @precondition(_takes("set-speed"))
    @rule(command=_command("job_set-speed"))
    def job_set_speed(self, command: Command) -> None:
        """block-job-set-speed."""
        self.perform(command)

    @precondition(_takes("complete"))
    @rule(command=_command("job_complete"))
    def job_complete(self, command: Command) -> None:
        """job-complete or block-job-complete."""
        self.perform(command)

    @precondition(_takes("finalize"))
    @rule(command=_command("job_finalize"))
    def job_finalize(self, command: Command) -> None:
        """job-finalize or block-job-finalize."""
        self.perform(command)

    @precondition(_takes("dismiss"))
    @rule(command=_command("job_dismiss"))
    def job_dismiss(self, command: Command) -> None:
        """job-dismiss or block-job-dismiss."""
        self.perform(command)

    @precondition(_has_jobs)
    @rule(command=_command("job_ending"))
    def job_ending(self, command: Command) -> None:
        """job-* or block-job-*: the verb that brings a job nearer to its end."""
        self.perform(command)

    @precondition(_has_jobs)
    @rule(command=_command("bump"))
    def bump(self, command: Command) -> None:
        """Another command on the nodes of a living job."""
        self.perform(command)

    @rule(command=_command("nbd_server"))
    def nbd_server(self, command: Command) -> None:
        """nbd-server-start or nbd-server-stop."""
        self.perform(command)

    @precondition(_has_room_for_exports)
    @rule(command=_command("add_export"))
    def add_export(self, command: Command) -> None:
        """block-export-add."""
        self.perform(command)

    @precondition(_has_exports)
    @rule(command=_command("delete_export"))
    def delete_export(self, command: Command) -> None:
        """block-export-del."""
        self.perform(command)

    @precondition(_has_threads)
    @rule(command=_command("set_iothread"))
    def set_iothread(self, command: Command) -> None:
        """x-blockdev-set-iothread."""
        self.perform(command)

    @precondition(_has_threads_and_room)
    @rule(commands=_whereabouts())
    def whereabouts(self, commands: list[Command]) -> None:
        """Where a node is by now: x-blockdev-set-iothread of one that cannot move."""
        for command in commands:
            self.perform(command)

    @precondition(_has_jobs)
    @rule(command=_command("query_jobs"))
    def query_jobs(self, command: Command) -> None:
        """query-jobs, query-block-jobs or query-block-exports."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("read"))
    def read(self, command: Command) -> None:
        """A guest reads a node."""
        self.perform(command)

    @precondition(_has_node())
    @rule(command=_command("write"))
    def write(self, command: Command) -> None:
        """A guest writes to a node."""
        self.perform(command)

    @rule(command=_command("query_nodes"))
    def query_nodes(self, command: Command) -> None:
        """query-named-block-nodes."""
        self.perform(command)

    @rule(command=_command("query_graph"))
    def query_graph(self, command: Command) -> None:
        """x-debug-query-block-graph."""
        self.perform(command)

    @precondition(_has_room)
    @rule(command=_command("corner"))
    def corner(self, command: Command) -> None:
        """The next step into a corner that a random walk seldom finds."""
        self.perform(command)

    @precondition(_has_some_room)
    @precondition(_has_long_chain)
    @rule(command=_command("chain_corner"))
    def chain_corner(self, command: Command) -> None:
        """The next step into a corner of commits."""
        self.perform(command)

    @precondition(_has_some_room)
    @precondition(_has_node())
    @rule(command=_command("mirror_corner"))
    def mirror_corner(self, command: Command) -> None:
        """The next step into a corner of mirrors."""
        self.perform(command)

    @precondition(_has_some_room)
    @precondition(_has_node())
    @rule(command=_command("filter_corner"))
    def filter_corner(self, command: Command) -> None:
        """The next step into a corner of the filters of jobs."""
        self.perform(command)

    @precondition(_has_threads)
    @rule(command=_command("thread_corner"))
    def thread_corner(self, command: Command) -> None:
        """The next step into a corner of iothreads."""
        self.perform(command)

    @rule(command=_command("malformed"))
    def malformed(self, command: Command) -> None:
        """Any command, broken so that the input check is asked."""
        self.perform(command)


class DeviceMachine(ReopenMachine):
    """The same with a machine whose devices use nodes."""

    def furnish(self, choose: Chooser) -> None:
        """Have disks from the start, perhaps, and one of them in a thread."""
        if not choose.chance(FIRST_DEVICES):
            return
        for kind in _FIRST_DEVICES[choose.integer(0, 1) :]:
            self.begin(choose, kind, 0)

    @precondition(_has_room_for_devices)
    @rule(command=_command("add_device"))
    def add_device(self, command: Command) -> None:
        """device_add."""
        self.perform(command)

    @precondition(_has_room_for_devices)
    @precondition(_has_devices)
    @rule(command=_command("add_disk"))
    def add_disk(self, command: Command) -> None:
        """device_add: a disk beside other devices."""
        self.perform(command)

    @precondition(_has_devices)
    @rule(command=_command("delete_device"))
    def delete_device(self, command: Command) -> None:
        """device_del."""
        self.perform(command)

    @precondition(_has_devices)
    @rule(command=_command("query_disks"))
    def query_disks(self, command: Command) -> None:
        """query-block."""
        self.perform(command)


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
        (DeviceMachine if dialect.schema.knows("device_add") else ReopenMachine,),
        {
            "dialect": dialect,
            "details": details,
            "on_step": staticmethod(on_step),
            "on_trace": staticmethod(on_trace),
        },
    )
