# SPDX-License-Identifier: GPL-2.0-or-later
"""Builders of jobs and of what is done to them.

A builder returns the arguments of a command; those of verbs return the whole command. They are
right as far as the state tells; :mod:`strategies.near_valid.wrong_jobs` makes one thing wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.commands import COMMANDS
from model.values.state import Role
from strategies.builders.scene import Scene, on_top
from strategies.builders.situation import TAKES, idle
from strategies.choices.option_values import KIB, LEAST, LEAST_SIZES, MIB
from strategies.choices.weights import HELD_BACK, KEPT, NAMED_FILTER, THROTTLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.values.state import Job, Node
    from model.values.trace import Command

Arguments = dict[str, Any]

FAST: Final = 1 << 40
"""A speed that limits nothing here."""
SLEEPERS: Final = ("commit", "stream")
"""The types of jobs that sleep where one knows: the others are never limited to a rate."""
ON_ERROR: Final = ("report", "ignore", "enospc", "stop", "auto")

_TWO = 2
_THREE = 3
_NAMED_BY_FILE = 15
_SYNCS = ("full", "full", "full", "top", "top", "none")


# What all jobs have


def _common(scene: Scene, *errors: str) -> Arguments:
    choose = scene.choose
    arguments: Arguments = {"job-id": scene.fresh_id("j")}
    if choose.chance(HELD_BACK):
        arguments["auto-finalize"] = False
    if choose.chance(KEPT):
        arguments["auto-dismiss"] = False
    if choose.chance(NAMED_FILTER):
        arguments["filter-node-name"] = scene.fresh_id("f")
    if choose.chance(20):
        arguments[choose.one_of(errors)] = choose.one_of(ON_ERROR)
    if choose.chance(10):
        arguments["speed"] = choose.one_of((0, FAST))
    return arguments


def _throttle(scene: Scene, arguments: Arguments) -> Arguments:
    """Perhaps let the job sleep after its first chunk; the machine pauses it then."""
    if scene.choose.chance(THROTTLED):
        arguments["speed"] = 1
    return arguments


def _device(scene: Scene, fits: Callable[[Node], bool]) -> Node | None:
    return scene.pick([node for node in scene.nodes if on_top(node)] or scene.nodes, fits)


# Commit and stream


def commit(scene: Scene) -> Arguments:
    """block-commit of the middle of a chain into what lies below it."""
    device = _device(scene, lambda node: len(scene.layers(node.name)) >= _THREE)
    if device is None:
        return {**_common(scene, "on-error"), "device": "missing"}
    layers = scene.layers(device.name)
    if len(layers) < _THREE:
        return active_commit(scene)
    top = scene.choose.integer(1, len(layers) - _TWO)
    base = scene.choose.integer(top + 1, len(layers) - 1)
    arguments = {**_common(scene, "on-error"), "device": device.name}
    _name(scene, arguments, "top", layers[top])
    if base < len(layers) - 1 or scene.choose.chance(80):
        _name(scene, arguments, "base", layers[base])
    if scene.choose.chance(20):
        arguments["backing-file"] = _backing_file(scene, layers[base])
    return _throttle(scene, arguments)


def active_commit(scene: Scene) -> Arguments:
    """block-commit of the top of a chain, which guests may go on writing to."""
    device = _device(scene, lambda node: len(scene.layers(node.name)) >= _TWO)
    arguments = _common(scene, "on-error")
    if device is None:
        return {**arguments, "device": "missing"}
    arguments["device"] = device.name
    layers = scene.layers(device.name)
    if scene.choose.chance(25):
        arguments["top-node"] = device.name
    if len(layers) >= _TWO and scene.choose.chance(75):
        _name(scene, arguments, "base", scene.choose.one_of(layers[1:]))
    return arguments


def stream(scene: Scene) -> Arguments:
    """block-stream of all that lies below a node into it, or of a part."""
    choose = scene.choose
    device = scene.pick(scene.nodes, lambda node: len(scene.layers(node.name)) >= _TWO)
    arguments = _common(scene, "on-error")
    if choose.chance(85):
        # One that a client has to dismiss meets a defect of 7.2 when it ends.
        arguments.pop("auto-dismiss", None)
    if device is None:
        return {**arguments, "device": "missing"}
    arguments["device"] = device.name
    below = scene.layers(device.name)[1:]
    if below and choose.chance(65):
        base = choose.one_of(below)
        if choose.chance(25):
            arguments["bottom"] = base.name
        else:
            _name(scene, arguments, "base", base)
            if choose.chance(25):
                arguments["backing-file"] = _backing_file(scene, base)
    return _throttle(scene, arguments)


def _name(scene: Scene, arguments: Arguments, which: str, node: Node) -> None:
    """Say which node is the top or the base, mostly by its name, sometimes by that of its file."""
    filename = scene.filename(node.name) if scene.choose.chance(_NAMED_BY_FILE) else ""
    if filename:
        arguments[which] = filename
    else:
        arguments[f"{which}-node"] = node.name


def _backing_file(scene: Scene, base: Node) -> str:
    names = [image.name for image in scene.images]
    return scene.filename(base.name) or scene.choose.one_of(names)


# Mirror and backup


def _target(scene: Scene, source: Node, *, same_size: int) -> str:
    """An idle node to copy to, mostly a writable one of the source's length."""
    size = scene.length(source.name)
    below = scene.below(source.name)
    others = [node for node in scene.nodes if node.name not in below and idle(node)]
    others = others or [node for node in scene.everything if node is not source]
    alike = scene.choose.chance(same_size)
    target = scene.pick(
        others,
        lambda node: (
            idle(node)
            and not node.read_only
            and node.driver != "file"
            and (not alike or scene.length(node.name) == size)
        ),
    )
    return target.name if target else "missing"


def mirror(scene: Scene) -> Arguments:
    """blockdev-mirror onto an idle node."""
    choose = scene.choose
    source = _device(scene, lambda node: node.driver in ("qcow2", "raw", "quorum"))
    arguments = _common(scene, "on-source-error", "on-target-error")
    arguments["sync"] = choose.one_of(_SYNCS)
    if source is None:
        return {**arguments, "device": "missing", "target": "missing"}
    arguments["device"] = source.name
    arguments["target"] = _target(scene, source, same_size=85)
    if choose.chance(25):
        arguments["copy-mode"] = choose.one_of(("write-blocking", "background"))
    if choose.chance(20):
        arguments["granularity"] = choose.one_of((64 * KIB, 4 * KIB, MIB, 512, 0))
    if choose.chance(10):
        arguments["buf-size"] = choose.one_of((0, MIB, 64 * KIB))
    if scene.takes("blockdev-mirror.arg", "target-is-zero") and choose.chance(20):
        arguments["target-is-zero"] = choose.chance(70)
    replaced = _replaceable(scene, source)
    if replaced and choose.chance(60 if source.driver == "quorum" else 20):
        arguments["replaces"] = choose.one_of(replaced)
    return arguments


def _replaceable(scene: Scene, source: Node) -> list[str]:
    """What a mirror may put its target in the place of: what it shows unchanged."""
    names = [source.name]
    below = source
    while filters := [link for link in below.children if link.role == link.role & _SHOWN]:
        below = scene.state.nodes[filters[0].child]
        names.append(below.name)
    if source.driver == "quorum":
        names = [link.child for link in source.children]
    known = scene.names()
    return [name for name in names if name in known]


_SHOWN = Role.FILTERED | Role.PRIMARY
"""The role of a filter's child."""


def backup(scene: Scene) -> Arguments:
    """blockdev-backup onto an idle node."""
    choose = scene.choose
    source = scene.pick(scene.nodes, lambda node: node.driver in ("qcow2", "raw"))
    arguments = _common(scene, "on-source-error", "on-target-error")
    arguments["sync"] = choose.one_of(_SYNCS)
    if source is None:
        return {**arguments, "device": "missing", "target": "missing"}
    arguments["device"] = source.name
    arguments["target"] = _target(scene, source, same_size=95)
    if choose.chance(8):
        arguments["compress"] = choose.chance(50)
    if choose.chance(10):
        paces = [
            {"use-copy-range": False},
            {"max-workers": 1},
            {"max-chunk": MIB},
            {"max-chunk": 0},
        ]
        if scene.takes("blockdev-backup.arg.x-perf", LEAST):
            paces += [{LEAST: size} for size in LEAST_SIZES]
        arguments["x-perf"] = choose.one_of(paces)
    return arguments


# Verbs

VERBS: Final = tuple(dict.fromkeys(verb for verbs in TAKES.values() for verb in verbs))
"""All verbs."""
_ENDS: Final = {
    "running": "cancel",
    "paused": "resume",
    "ready": "complete",
    "standby": "resume",
    "pending": "finalize",
    "concluded": "dismiss",
}


def commands_of(verb: str) -> tuple[str, ...]:
    """The commands of the spec for a verb, of the two families that there are."""
    return tuple(name for name in (f"job-{verb}", f"block-job-{verb}") if name in COMMANDS)


def any_verb(scene: Scene) -> Command:
    """Any verb, whether the job's state takes it or not; now and then a second pause."""
    job = scene.choose.one_of(scene.jobs())
    again = job.paused and scene.choose.chance(40)
    return spoken(scene, job, "pause" if again else scene.choose.one_of(VERBS))


def verb(name: str) -> Callable[[Scene], Command]:
    """The builder of one verb, for a job whose state takes it."""

    def build(scene: Scene) -> Command:
        jobs = [job for job in scene.jobs() if name in TAKES.get(job.status, ())]
        return spoken(scene, scene.choose.one_of(jobs or scene.jobs()), name)

    build.__doc__ = f"{name}, told to a job that takes it, by one of the commands that there are."
    return build


def ending(scene: Scene) -> Command:
    """The verb that brings a job nearer to its end."""
    job = scene.choose.one_of(scene.jobs())
    if job.status == "paused" and job.speed == 1 and scene.choose.chance(75):
        return _set_speed(job, 0)
    return spoken(scene, job, _ENDS.get(job.status, "cancel"))


def spoken(scene: Scene, job: Job, name: str) -> Command:
    """A verb in one of the two families of commands that there are."""
    choose = scene.choose
    if name == "set-speed":
        return _set_speed(job, choose.one_of(_speeds(job)))
    if choose.chance(50):
        return {"execute": f"job-{name}", "arguments": {"id": job.id}}
    arguments: Arguments = {"id" if name in ("finalize", "dismiss") else "device": job.id}
    if name == "cancel" and choose.chance(50):
        arguments["force"] = choose.chance(50)
    return {"execute": f"block-job-{name}", "arguments": arguments}


def _speeds(job: Job) -> tuple[int, ...]:
    return (0, 0, FAST, 1) if job.type in SLEEPERS else (0, FAST)


def _set_speed(job: Job, speed: int) -> Command:
    return {"execute": "block-job-set-speed", "arguments": {"device": job.id, "speed": speed}}


# Queries


def query(scene: Scene) -> Command:
    """What jobs and exports there are."""
    queries = ("query-jobs", "query-block-jobs", "query-block-exports")
    return {"execute": scene.choose.one_of(queries)}
