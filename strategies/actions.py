# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what a trace may do. A new command is one row here and the function that builds it.

The rules of the machine, the finite alphabet, the commands that are malformed, and the page of the
commands that are tried (docs/commands.md) are made from these rows. Nothing else lists them.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, TypeVar

from model.release.translation import spoken
from model.values.trace import OBJECT, READ, WAIT, WRITE
from strategies.action import Action, sends
from strategies.bounded import letters
from strategies.builders import (
    add_node,
    beside_jobs,
    devices,
    exports,
    graph_commands,
    guest_io,
    jobs,
    reopen,
)
from strategies.builders import situation as condition
from strategies.builders.situation import always
from strategies.choices.weights import NEAR_VALID
from strategies.near_valid import (
    wrong_commands,
    wrong_copies,
    wrong_devices,
    wrong_exports,
    wrong_jobs,
)
from strategies.near_valid.fault import make_wrong
from strategies.near_valid.malformed import malformed
from strategies.scenarios import graph
from strategies.scenarios.chains import CHAIN_CORNERS
from strategies.scenarios.iothreads import THREAD_CORNERS
from strategies.scenarios.job_filters import FILTER_CORNERS
from strategies.scenarios.mirrors import MIRROR_CORNERS
from strategies.scenarios.steps import any_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.values.trace import Command
    from strategies.action import Arguments, Build
    from strategies.builders.scene import Scene
    from strategies.builders.situation import Condition
    from strategies.near_valid.fault import Fault

T = TypeVar("T")

_CHOSEN: Final = NEAR_VALID // 2
"""The share of faults where the builder chooses the command, too."""


def _add(
    name: str,
    options: Callable[[Scene], dict[str, Any]],
    when: Condition = condition.has_room,
    **more: Any,
) -> Action:
    """A blockdev-add of a node with a new name and the options that a builder makes."""

    @functools.wraps(options)
    def arguments(scene: Scene) -> Arguments:
        new = scene.fresh_name()
        return {**options(scene), "node-name": new}

    faults = wrong_commands.ADDITION_FAULTS
    return sends(name, "blockdev-add", arguments, when, faults=faults, **more)


def _reopen(
    name: str,
    options: Callable[[Scene], list[dict[str, Any]]],
    when: Condition = condition.has_node,
    **more: Any,
) -> Action:
    """A blockdev-reopen with the list of options that a builder makes."""

    @functools.wraps(options)
    def build(scene: Scene) -> Command:
        made = options(scene)
        # Before there was a list, one node was reopened at a time.
        several = scene.dialect.schema.knows("blockdev-reopen")
        return {
            "execute": "blockdev-reopen",
            "arguments": {"options": made if several else made[:1]},
        }

    faults = wrong_commands.REOPEN_FAULTS
    # The machine says it in the words of the release.
    commands = ("blockdev-reopen", "x-blockdev-reopen")
    return Action(name, commands, build, when, faults=faults, **more)


def _verb(verb: str, **more: Any) -> Action:
    """A verb, told to a job that takes it, in one of the two families of commands."""
    name, when = f"job_{verb.replace('-', '_')}", condition.has_job_for(verb)
    commands = jobs.commands_of(verb)
    faults = wrong_jobs.SET_SPEED_FAULTS if verb == "set-speed" else wrong_jobs.VERB_FAULTS
    more = {"faults": faults, "fault_rate": _CHOSEN, **more}
    return Action(name, commands, jobs.verb(verb), when, **more)


def _corner(name: str, build: Build, when: Condition) -> Action:
    """The next command of a scenario; nothing is made wrong in it."""
    return Action(name, (), build, when, fault_rate=0)


def build_malformed(scene: Scene) -> Command:
    """Any command, broken so that the input check is asked."""
    names = [
        action.name
        for action in ACTIONS.values()
        if action.malformable and action.is_known(scene.dialect) and action.when(scene)
        for _ in range(action.malformable)
    ]
    (right,) = build(scene, scene.choose.one_of(names), fault_rate=0)
    return malformed(scene.choose, spoken(right, scene.dialect.schema))


def _rows() -> Iterator[Action]:
    yield from _nodes()
    yield from _reopens()
    yield from _objects_and_devices()
    yield from _jobs()
    yield from _exports()
    yield from _looks()
    yield from _corners()


def _nodes() -> Iterator[Action]:
    yield _add("add_protocol", add_node.protocol, malformable=1, letters=letters.leaves)
    yield _add("add_chain", add_node.chain, malformable=1, letters=letters.formats)
    yield _add("add_format", add_node.format_by_reference)
    yield _add("add_filter", add_node.filter_by_reference, malformable=1, letters=letters.filters)
    yield _add("add_quorum", add_node.quorum, malformable=1)
    yield _add("add_blkverify", add_node.blkverify)
    yield _add("add_tower", add_node.tower, condition.has_room_for_a_tower)
    yield sends(
        "delete",
        "blockdev-del",
        graph_commands.deletion,
        condition.has_node,
        faults=wrong_commands.DELETION_FAULTS,
        malformable=1,
        letters=letters.deletions,
    )
    yield sends(
        "snapshot",
        "blockdev-snapshot",
        graph_commands.snapshot,
        condition.has_overlay,
        faults=wrong_commands.SNAPSHOT_FAULTS,
        malformable=1,
    )
    yield sends(
        "change_quorum",
        "x-blockdev-change",
        graph_commands.quorum_child,
        condition.has_quorum,
        faults=wrong_commands.QUORUM_FAULTS,
        malformable=1,
    )
    yield sends(
        "resize",
        "block_resize",
        graph_commands.resize,
        condition.has_resizable,
        faults=wrong_commands.RESIZE_FAULTS,
        malformable=1,
    )


def _reopens() -> Iterator[Action]:
    yield _reopen("reopen_options", reopen.one, malformable=1, letters=letters.reopens)
    yield _reopen("reopen_as_it_is", reopen.as_it_is)
    yield _reopen("reopen_less", reopen.less)
    yield _reopen("reopen_backing", reopen.backing, condition.has_qcow2)
    yield _reopen("reopen_file", reopen.file, condition.has_file)
    yield _reopen("reopen_several", reopen.several, malformable=1)
    yield _reopen("reopen_swap", reopen.swap_backing, condition.has_qcow2)
    yield _reopen("reopen_children", reopen.children, malformable=1)
    yield _reopen("reopen_busy", beside_jobs.reopen, condition.has_busy_nodes)
    yield _reopen("reopen_frozen", beside_jobs.reopen_frozen, condition.has_frozen)


def _objects_and_devices() -> Iterator[Action]:
    for name, arguments in (
        ("add_throttle_group", graph_commands.throttle_group),
        ("add_iothread", graph_commands.iothread),
    ):
        yield sends(
            name,
            "object-add",
            arguments,
            condition.has_room_for_objects,
            faults=wrong_commands.OBJECT_FAULTS,
            malformable=1,
        )
    yield sends(
        "delete_object",
        "object-del",
        graph_commands.object_deletion,
        condition.has_objects,
        faults=wrong_commands.OBJECT_DELETION_FAULTS,
        malformable=1,
    )
    for name, arguments, when in (
        ("add_device", devices.device, condition.has_room_for_devices),
        ("add_controller", devices.controller, condition.only_at_first),
        ("add_disk", devices.disk, condition.has_devices_and_room),
    ):
        yield sends(
            name, "device_add", arguments, when, faults=wrong_devices.DEVICE_FAULTS, copies=True
        )
    yield sends(
        "delete_device",
        "device_del",
        devices.deletion,
        condition.has_devices,
        faults=wrong_devices.DEVICE_DELETION_FAULTS,
    )


def _jobs() -> Iterator[Action]:
    for name, command, arguments, when, faults, letter in (
        ("commit", "block-commit", jobs.commit, condition.has_long_chain,
         wrong_jobs.COMMIT_FAULTS, None),
        ("active_commit", "block-commit", jobs.active_commit, condition.has_chain,
         wrong_jobs.COMMIT_FAULTS, letters.commits),
        ("stream", "block-stream", jobs.stream, condition.has_chain,
         wrong_jobs.STREAM_FAULTS, letters.streams),
        ("mirror", "blockdev-mirror", jobs.mirror, condition.has_pair,
         wrong_copies.MIRROR_FAULTS, None),
        ("backup", "blockdev-backup", jobs.backup, condition.has_pair,
         wrong_copies.BACKUP_FAULTS, None),
    ):  # fmt: skip
        yield sends(
            name,
            command,
            arguments,
            when,
            faults=faults,
            malformable=name != "active_commit",
            copies=True,
            letters=letter,
        )
    yield Action("job_verb", (), jobs.any_verb, condition.has_jobs, fault_rate=_CHOSEN,
                 malformable=2)  # fmt: skip
    of_verbs = {"cancel": letters.cancellations, "finalize": letters.finalizations}
    for verb in jobs.VERBS:
        yield _verb(verb, letters=of_verbs.get(verb))
    yield Action("job_ending", (), jobs.ending, condition.has_jobs, fault_rate=_CHOSEN)
    yield Action("beside_jobs", (), beside_jobs.beside, condition.has_jobs, fault_rate=_CHOSEN)


def _exports() -> Iterator[Action]:
    yield Action(
        "nbd_server",
        ("nbd-server-start", "nbd-server-stop"),
        exports.server,
        faults=wrong_exports.SERVER_FAULTS,
        fault_rate=_CHOSEN,
        malformable=1,
    )
    yield Action(
        "add_export",
        ("block-export-add",),
        exports.exporting,
        condition.has_room_for_exports,
        faults=wrong_exports.EXPORT_FAULTS,
        fault_rate=_CHOSEN,
        malformable=1,
    )
    yield sends(
        "delete_export",
        "block-export-del",
        exports.export_deletion,
        condition.has_exports,
        faults=wrong_exports.EXPORT_DELETION_FAULTS,
        malformable=1,
    )
    yield sends(
        "set_iothread",
        "x-blockdev-set-iothread",
        exports.move,
        condition.has_threads,
        faults=wrong_exports.MOVE_FAULTS,
        malformable=1,
    )
    yield Action("whereabouts", (), exports.whereabouts, condition.has_threads_and_room,
                 fault_rate=0)  # fmt: skip


def _looks() -> Iterator[Action]:
    queries = ("query-jobs", "query-block-jobs", "query-block-exports")
    yield Action("query_jobs", queries, jobs.query, condition.has_jobs)
    yield sends("query_nodes", "query-named-block-nodes", graph_commands.query_nodes, always,
               malformable=1)  # fmt: skip
    yield sends("query_graph", "x-debug-query-block-graph", graph_commands.query_graph, always)
    yield Action("query_disks", ("query-block",), devices.query, condition.has_devices)
    yield Action("read", (READ,), guest_io.read_one, condition.has_node, copies=True)
    yield Action("write", (WRITE,), guest_io.write_one, condition.has_node, copies=True)


def _corners() -> Iterator[Action]:
    yield _corner("corner", graph.corner, condition.has_room)
    yield _corner("chain_corner", any_of(*CHAIN_CORNERS), condition.has_long_chain_and_room)
    yield _corner("mirror_corner", any_of(*MIRROR_CORNERS), condition.has_node_and_room)
    yield _corner("filter_corner", any_of(*FILTER_CORNERS), condition.has_node_and_room)
    yield _corner("thread_corner", any_of(*THREAD_CORNERS), condition.has_threads)
    yield _corner("malformed", build_malformed, always)


ACTIONS: Final[dict[str, Action]] = {action.name: action for action in _rows()}
"""The table, by name."""

FAULTS: Final[dict[str, tuple[Fault, ...]]] = {
    command: action.faults
    for action in ACTIONS.values()
    if action.faults
    for command in action.commands
}
"""What can be wrong with a command, whoever builds it."""

COPYING: Final = frozenset(
    command for action in ACTIONS.values() if action.copies for command in action.commands
)
"""The commands that read or write all of a node."""

NOT_BUILT: Final[dict[str, str]] = {
    WAIT: "the machine waits for what a command has set going, and for nothing else",
    OBJECT: "an example begins with these objects where the release cannot make any later",
}
"""The commands of the spec that no action is there for, and why."""


def build(scene: Scene, name: str, *, fault_rate: int | None = None) -> list[Command]:
    """The next commands of one action: right as far as the state tells, or one thing wrong in each.

    ``fault_rate`` is another one than the action's own, of 100.
    """
    action = ACTIONS[name]
    rate = action.fault_rate if fault_rate is None else fault_rate
    built = action.build(scene)
    return [
        _finished(scene, each, rate) for each in (built if isinstance(built, list) else [built])
    ]


def _finished(scene: Scene, command: Command, fault_rate: int) -> Command:
    if not scene.choose.chance(fault_rate):
        return _owned(command)
    name, arguments = command["execute"], command.get("arguments", {})
    make_wrong(scene, FAULTS.get(name, ()), arguments)
    return {"execute": name, "arguments": _owned(arguments)} if arguments else {"execute": name}


def _owned(value: T) -> T:
    """A copy: builders put values of their tables into commands, and a trace owns what it holds."""
    if isinstance(value, dict):
        return {key: _owned(each) for key, each in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_owned(each) for each in value]  # type: ignore[return-value]
    return value
