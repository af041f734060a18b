# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the arguments of a job or of a verb.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strategies.builders.jobs import ON_ERROR
from strategies.builders.situation import generated
from strategies.choices.drivers import FILTERS
from strategies.near_valid.wrong_nodes import BAD_NAMES

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Arguments, Fault

_OTHER_FILE: Final = "missing.qcow2"


# All jobs


def no_job_id(_scene: Scene, arguments: Arguments) -> bool:
    """No name for a job that works on no device."""
    return arguments.pop("job-id", None) is not None


def bad_job_id(scene: Scene, arguments: Arguments) -> bool:
    """A name that no job may have."""
    arguments["job-id"] = scene.choose.one_of(("", "1x", "a b", "#x", "a/b"))
    return True


def job_id_taken(scene: Scene, arguments: Arguments) -> bool:
    """The name of another job."""
    if not scene.jobs():
        return False
    arguments["job-id"] = scene.choose.one_of(scene.jobs()).id
    return True


def negative_speed(_scene: Scene, arguments: Arguments) -> bool:
    """A speed below zero."""
    arguments["speed"] = -1
    return True


def bad_filter_name(scene: Scene, arguments: Arguments) -> bool:
    """A name for the filter that no node may have, or that another one has."""
    names = scene.names()
    bad = scene.choose.one_of(BAD_NAMES)
    taken = names and scene.choose.chance(50)
    arguments["filter-node-name"] = scene.choose.one_of(names) if taken else bad
    return True


def other_device(scene: Scene, arguments: Arguments) -> bool:
    """Any node for the one to work on: one that has a parent, a filter, one without a chain."""
    names = scene.names()
    if not names:
        return False
    arguments["device"] = scene.choose.one_of(names)
    return True


def missing_device(_scene: Scene, arguments: Arguments) -> bool:
    """A node to work on that does not exist."""
    arguments["device"] = "missing"
    return True


def on_error(scene: Scene, arguments: Arguments) -> bool:
    """What to do about errors, which no job here has."""
    names = ("on-source-error", "on-target-error") if "target" in arguments else ("on-error",)
    arguments[scene.choose.one_of(names)] = scene.choose.one_of(ON_ERROR)
    return True


ANY_JOB: Final[tuple[Fault, ...]] = (
    no_job_id,
    bad_job_id,
    job_id_taken,
    negative_speed,
    bad_filter_name,
    bad_filter_name,
    other_device,
    other_device,
    missing_device,
    on_error,
)


# Commit and stream


def _any_of(*keys: str) -> Fault:
    """One of the nodes of a chain becomes any node, or one that does not exist."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        key = scene.choose.one_of(keys)
        arguments.pop(key.removesuffix("-node"), None)
        arguments[key] = scene.choose.one_of(["missing", *scene.names()])
        return True

    apply.__doc__ = f"Any node, or one that does not exist: {' or '.join(keys)}."
    apply.__name__ = f"any_of_{'_'.join(keys).replace('-', '_')}"
    return apply


def top_is_base(_scene: Scene, arguments: Arguments) -> bool:
    """An image that is committed into itself."""
    top = arguments.get("top-node", arguments["device"])
    for key in ("top", "base"):
        arguments.pop(key, None)
    arguments["top-node"] = arguments["base-node"] = top
    return True


def only_filters(scene: Scene, arguments: Arguments) -> bool:
    """A base with nothing but filters between it and the top, or the device of a stream."""
    pairs = [
        (node.name, link.child)
        for node in scene.everything
        if node.driver in FILTERS
        for link in node.children
        if not generated(link.child)
    ]
    if not pairs:
        return False
    top, base = scene.choose.one_of(pairs)
    for key in ("top", "base", "bottom", "backing-file"):
        arguments.pop(key, None)
    arguments["base-node"] = base
    above = [node.name for node in scene.everything if top in scene.below(node.name)]
    if scene.choose.chance(50):
        arguments["device"] = top
    else:
        arguments.update({"device": scene.choose.one_of(above), "top-node": top})
    return True


def filters_in_chain(scene: Scene, arguments: Arguments) -> bool:
    """A stream from a filter down to what it filters."""
    if not only_filters(scene, arguments):
        return False
    arguments["device"] = arguments.pop("top-node", arguments["device"])
    return True


def upside_down(_scene: Scene, arguments: Arguments) -> bool:
    """The base above the top."""
    base = arguments.get("base-node")
    if base is None or "top" in arguments:
        return False
    arguments["base-node"], arguments["top-node"] = arguments.get("top-node", "missing"), base
    return True


def both_ways(scene: Scene, arguments: Arguments) -> bool:
    """A top or base by its name and by that of its file."""
    which = scene.choose.one_of(("top", "base")) if "sync" not in arguments else "base"
    arguments[which] = _OTHER_FILE
    arguments.setdefault(f"{which}-node", arguments["device"])
    return True


def wrong_file(scene: Scene, arguments: Arguments) -> bool:
    """A file that is not in the chain, or any that may be."""
    which = scene.choose.one_of(("top", "base"))
    arguments.pop(f"{which}-node", None)
    names = [image.name for image in scene.images]
    arguments[which] = scene.choose.one_of([_OTHER_FILE, *names])
    return True


def backing_file(scene: Scene, arguments: Arguments) -> bool:
    """A name for the backing file where there will be none, or a bad one."""
    if scene.choose.chance(60):
        for key in ("top", "top-node", "base", "base-node", "bottom"):
            arguments.pop(key, None)
    names = [image.name for image in scene.images]
    arguments["backing-file"] = scene.choose.one_of(("", "x" * 1100, _OTHER_FILE, *names))
    return True


def two_ends(scene: Scene, arguments: Arguments) -> bool:
    """Two of the three ways to say where a stream ends."""
    below = scene.names()
    first, second = scene.choose.one_of(
        (("base", "base-node"), ("base", "bottom"), ("base-node", "bottom"))
    )
    for key in ("base", "base-node", "bottom"):
        arguments.pop(key, None)
    for key in (first, second):
        arguments[key] = scene.choose.one_of(["missing", *below])
    return True


def wrong_end(scene: Scene, arguments: Arguments) -> bool:
    """A bottom that does not exist, is a filter, or lies elsewhere."""
    for key in ("base", "base-node", "backing-file"):
        arguments.pop(key, None)
    filters = [node.name for node in scene.everything if node.driver in FILTERS]
    names = filters if filters and scene.choose.chance(50) else ["missing", *scene.names()]
    arguments["bottom"] = scene.choose.one_of(names)
    return True


def stream_file(scene: Scene, arguments: Arguments) -> bool:
    """A base by the name of a file that is not in the chain, or any that may be."""
    for key in ("base-node", "bottom"):
        arguments.pop(key, None)
    names = [image.name for image in scene.images]
    arguments["base"] = scene.choose.one_of([_OTHER_FILE, *names])
    return True


# Verbs


def unknown_job(_scene: Scene, arguments: Arguments) -> bool:
    """A job that does not exist."""
    arguments["id" if "id" in arguments else "device"] = "missing"
    return True


def bad_speed(_scene: Scene, arguments: Arguments) -> bool:
    """A speed below zero."""
    arguments["speed"] = -1
    return True


COMMIT_FAULTS: Final[tuple[Fault, ...]] = (
    *ANY_JOB,
    _any_of("base-node"),
    _any_of("top-node", "base-node"),
    top_is_base,
    only_filters,
    upside_down,
    both_ways,
    wrong_file,
    wrong_file,
    backing_file,
)
STREAM_FAULTS: Final[tuple[Fault, ...]] = (
    *ANY_JOB,
    _any_of("base-node"),
    filters_in_chain,
    two_ends,
    two_ends,
    wrong_end,
    wrong_end,
    stream_file,
    backing_file,
)
VERB_FAULTS: Final[tuple[Fault, ...]] = (unknown_job,)
SET_SPEED_FAULTS: Final[tuple[Fault, ...]] = (unknown_job, bad_speed)
