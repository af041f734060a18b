# SPDX-License-Identifier: GPL-2.0-or-later
"""What an example begins with: some nodes and objects, perhaps a job, or the way into a corner.

Hypothesis leaves some rules out of each example altogether. Without a beginning, one that lacks the
rules that add would have an empty graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from model.values.trace import OBJECT
from strategies.actions import ACTIONS, build
from strategies.builders.exports import server_start
from strategies.builders.situation import Situation, has_room_on_the_way
from strategies.choices.weights import (
    FIRST_CORNER,
    FIRST_DEVICES,
    FIRST_JOB,
    FIRST_SERVER,
    MOST_FIRST,
    NEAR_VALID,
    WRONG_FIRST,
)
from strategies.scenarios import graph
from strategies.scenarios.chains import CHAIN_CORNERS
from strategies.scenarios.iothreads import THREAD_CORNERS
from strategies.scenarios.job_filters import FILTER_CORNERS
from strategies.scenarios.mirrors import MIRROR_CORNERS

if TYPE_CHECKING:
    from model.values.trace import Command
    from strategies.builders.scene import Scene
    from strategies.choices.chooser import Chooser

_FIRST: Final = (
    "add_chain",
    "add_chain",
    "add_protocol",
    "add_filter",
    "add_throttle_group",
    "add_iothread",
)
_FIRST_DEVICES: Final = ("add_iothread", "add_controller", "add_chain", "add_disk", "add_disk")
"""What gets an example disks. Some do without the first."""
_FIRST_JOBS: Final[dict[str, tuple[str, ...]]] = {
    "commit": ("add_tower",),
    "active_commit": ("add_tower",),
    "stream": ("add_tower",),
    "mirror": ("add_tower", "add_chain", "add_chain"),
    "backup": ("add_tower", "add_chain", "add_chain"),
}
"""What an example may begin with: a job, and what is to be there before."""
OBJECTS: Final[tuple[Command, ...]] = tuple(
    {"execute": OBJECT, "arguments": arguments}
    for arguments in (
        {"qom-type": "throttle-group", "id": "tg0"},
        {"qom-type": "throttle-group", "id": "tg1", "x-iops-total": 10**9},
        {"qom-type": "iothread", "id": "io0"},
        {"qom-type": "iothread", "id": "io1"},
    )
)
"""What an example begins with where the release cannot make objects later."""
_CORNERS: Final = (
    graph.put_back,
    graph.forgotten_access,
    graph.left_dirty,
    graph.stuck_preallocation,
    graph.told_backing,
    *CHAIN_CORNERS,
    *MIRROR_CORNERS,
    *FILTER_CORNERS,
    *THREAD_CORNERS,
)
"""The corners that an example may begin on the way to."""
_WRONG: Final = 100
_STEPS: Final = 10
"""So many lead into any corner."""


class Writer(Protocol):
    """What writes the trace: the machine."""

    situation: Situation

    def scene(self, choose: Chooser) -> Scene:
        """What a builder sees."""

    def perform(self, command: Command) -> None:
        """Execute a command, and remember it."""


def begin(writer: Writer, choose: Chooser) -> None:
    """Write the commands that an example begins with."""
    if choose.chance(FIRST_CORNER):
        _into_a_corner(writer, choose)
    else:
        _some_of_each(writer, choose)
    if ACTIONS["add_disk"].is_known(writer.situation.dialect) and choose.chance(FIRST_DEVICES):
        for name in _FIRST_DEVICES[choose.integer(0, 1) :]:
            _add(writer, choose, name, 0)


def _add(writer: Writer, choose: Chooser, name: str, fault_rate: int) -> None:
    for command in build(writer.scene(choose), name, fault_rate=fault_rate):
        writer.perform(command)


def _some_of_each(writer: Writer, choose: Chooser) -> None:
    """Nodes and objects, exports perhaps, and perhaps a job."""
    first = [name for name in _FIRST if ACTIONS[name].is_known(writer.situation.dialect)]
    for _ in range(choose.integer(0, MOST_FIRST)):
        _add(writer, choose, choose.one_of(first), NEAR_VALID)
    if choose.chance(FIRST_SERVER):
        writer.perform(server_start())
        for fault_rate in (_WRONG, 0, _WRONG) if writer.situation.nodes else ():
            _add(writer, choose, "add_export", fault_rate)
    if choose.chance(FIRST_JOB):
        job = choose.one_of(list(_FIRST_JOBS))
        for name in _FIRST_JOBS[job]:
            _add(writer, choose, name, 0)
        for fault_rate in (*(_WRONG,) * WRONG_FIRST, 0):
            _add(writer, choose, job, fault_rate)


def _into_a_corner(writer: Writer, choose: Chooser) -> None:
    """Some steps from an empty graph, or from a chain where the first of them needs one."""
    way = choose.one_of(_CORNERS)
    for _ in range(_STEPS):
        scene = writer.scene(choose)
        command = way(scene)
        if not has_room_on_the_way(scene) or (command is None and scene.state.nodes):
            return
        for each in (command,) if command else build(scene, "add_tower", fault_rate=0):
            writer.perform(each)
