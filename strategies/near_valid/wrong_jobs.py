# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the arguments of a job, a verb, an export or a move to another thread.

Each function changes ``arguments`` in place and says whether it could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from strategies.builders.jobs import ON_ERROR
from strategies.builders.scene import Scene, generated
from strategies.choices.option_values import FILTERS, KIB, LEAST, MIB
from strategies.near_valid.wrong_nodes import BAD_NAMES

Arguments = dict[str, Any]
Spoil = Callable[[Scene, Arguments], bool]

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


_ANY: Final[tuple[Spoil, ...]] = (
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


def _any_of(*keys: str) -> Spoil:
    """One of the nodes of a chain becomes any node, or one that does not exist."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        key = scene.choose.one_of(keys)
        arguments.pop(key.removesuffix("-node"), None)
        arguments[key] = scene.choose.one_of(["missing", *scene.names()])
        return True

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


# Mirror and backup


def same_node(_scene: Scene, arguments: Arguments) -> bool:
    """The source as target."""
    arguments["target"] = arguments["device"]
    return True


def other_target(scene: Scene, arguments: Arguments) -> bool:
    """Any node as target: one that is used, lies in the chain, or has another length."""
    arguments["target"] = scene.choose.one_of(["missing", *scene.names()])
    return True


def target_below(scene: Scene, arguments: Arguments) -> bool:
    """A target that lies below the source."""
    if arguments["device"] not in scene.state.nodes:
        return False
    names = [node.name for node in scene.layers(arguments["device"])[1:]]
    if not names:
        return False
    arguments["target"] = scene.choose.one_of(names)
    return True


def filter_of_chain(scene: Scene, arguments: Arguments) -> bool:
    """A target that is a filter above a node of the source's chain."""
    if arguments["device"] not in scene.state.nodes:
        return False
    layers = [node.name for node in scene.chain(arguments["device"])]
    names = [
        node.name
        for node in scene.everything
        if node.driver in FILTERS and any(link.child in layers for link in node.children)
    ]
    if not names:
        return False
    arguments["target"] = scene.choose.one_of(names)
    return True


def other_length(scene: Scene, arguments: Arguments) -> bool:
    """A target of another length."""
    source = arguments["device"]
    if source not in scene.state.nodes:
        return False
    size = scene.length(source)
    names = [x.name for x in scene.nodes if not x.parents and scene.length(x.name) != size]
    if not names:
        return False
    arguments["target"] = scene.choose.one_of(names)
    return True


def bad_granularity(scene: Scene, arguments: Arguments) -> bool:
    """A granularity that is too small, too large, or no power of two."""
    arguments["granularity"] = scene.choose.one_of((256, 3, 1000, 128 * MIB, 96 * KIB))
    return True


def bad_buffer(_scene: Scene, arguments: Arguments) -> bool:
    """A buffer of less than nothing."""
    arguments["buf-size"] = -1
    return True


def wrong_replaced(scene: Scene, arguments: Arguments) -> bool:
    """A node to replace that does not exist, does not show the same, or has another length."""
    names = scene.names() if scene.choose.chance(75) else []
    arguments["replaces"] = scene.choose.one_of(["missing", *names])
    return True


def bitmap_sync(scene: Scene, arguments: Arguments) -> bool:
    """Work by a bitmap, of which there is none."""
    choose = scene.choose
    arguments["sync"] = choose.one_of(("incremental", "bitmap"))
    if choose.chance(60):
        arguments["bitmap"] = "b0"
        if choose.chance(50):
            arguments["bitmap-mode"] = choose.one_of(("on-success", "never", "always"))
    return True


def fixed_bitmap_mode(scene: Scene, arguments: Arguments) -> bool:
    """An incremental backup whose bitmap is cleared in another way than always."""
    arguments.update({"sync": "incremental", "bitmap": "b0"})
    arguments["bitmap-mode"] = scene.choose.one_of(("never", "always"))
    return True


def mirror_by_bitmap(scene: Scene, arguments: Arguments) -> bool:
    """A mirror by a bitmap."""
    arguments["sync"] = scene.choose.one_of(("incremental", "bitmap"))
    return True


def bitmap_of_its_own(scene: Scene, arguments: Arguments) -> bool:
    """A bitmap, or a mode for one, where it has no part in the work."""
    if scene.choose.chance(50):
        arguments["bitmap"] = "b0"
    if scene.choose.chance(70) or "bitmap" not in arguments:
        arguments["bitmap-mode"] = scene.choose.one_of(("on-success", "never", "always"))
    return True


def compressed(_scene: Scene, arguments: Arguments) -> bool:
    """Compressed clusters, which few drivers write."""
    arguments["compress"] = True
    return True


def bad_pace(scene: Scene, arguments: Arguments) -> bool:
    """Numbers that are no numbers of workers or bytes."""
    paces = [
        {"max-workers": 0},
        {"max-workers": -1},
        {"max-workers": 2**31},
        {"max-chunk": -1},
        {"max-chunk": 512},
        {"max-chunk": 4096},
    ]
    if scene.takes("blockdev-backup.arg.x-perf", LEAST):
        paces += [{LEAST: 1000}, {LEAST: 2**63}, {LEAST: MIB, "max-chunk": MIB // 2}]
    arguments["x-perf"] = scene.choose.one_of(paces)
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


# Exports, servers and threads


def export_id_taken(scene: Scene, arguments: Arguments) -> bool:
    """The name of another export."""
    known = list(scene.state.exports)
    if not known:
        return False
    arguments["id"] = scene.choose.one_of(known)
    return True


def bad_export_id(scene: Scene, arguments: Arguments) -> bool:
    """A name that no export may have."""
    arguments["id"] = scene.choose.one_of(("", "1x", "a b", "#x"))
    return True


def unknown_node(_scene: Scene, arguments: Arguments) -> bool:
    """A node that does not exist."""
    arguments["node-name"] = "missing"
    return True


def unknown_thread(scene: Scene, arguments: Arguments) -> bool:
    """A thread that does not exist, or an object that is none."""
    arguments["iothread"] = scene.choose.one_of(["missing", *scene.groups()])
    return True


def other_threads(scene: Scene, arguments: Arguments) -> bool:
    """An iothread that does not exist; or a list of iothreads, which no export takes."""
    if "BlockExportIothreads" not in scene.dialect.schema.types or not scene.choose.chance(60):
        return unknown_thread(scene, arguments)
    known = scene.iothreads()
    arguments["iothread"] = scene.choose.one_of(
        (known, known, [], ["missing"], [*known, "missing"])
    )
    if not scene.choose.chance(25):
        arguments.pop("fixed-iothread", None)
    return True


def write_read_only(scene: Scene, arguments: Arguments) -> bool:
    """A writable export of a node that is read-only, or that others do not let be written."""
    names = [node.name for node in scene.everything if node.read_only or node.parents]
    if not names:
        return False
    arguments.update({"node-name": scene.choose.one_of(names), "writable": True})
    return True


def export_name_taken(scene: Scene, arguments: Arguments) -> bool:
    """The name under which clients see another export."""
    names = [each.export_name for each in scene.state.exports.values()]
    if not names:
        return False
    arguments["name"] = scene.choose.one_of(names)
    return True


def long_name(scene: Scene, arguments: Arguments) -> bool:
    """A name or a description that no client could be told."""
    arguments[scene.choose.one_of(("name", "description"))] = "x" * 4097
    return True


def unknown_bitmap(_scene: Scene, arguments: Arguments) -> bool:
    """A bitmap to export that does not exist."""
    arguments["bitmaps"] = ["b0"]
    return True


def bitmap_elsewhere(scene: Scene, arguments: Arguments) -> bool:
    """A bitmap to export that a node does not have, or of a node that does not exist."""
    node = scene.choose.one_of(["missing", arguments["node-name"]])
    arguments["bitmaps"] = [{"node": node, "name": "b0"}]
    return True


def bad_address(scene: Scene, arguments: Arguments) -> bool:
    """A socket in a directory that does not exist, or with a path that is too long."""
    path = scene.choose.one_of(("missing/nbd.sock", "x" * 200))
    arguments["addr"] = {"type": "unix", "data": {"path": path}}
    return True


def no_credentials(scene: Scene, arguments: Arguments) -> bool:
    """Credentials that do not exist, or an object that is none."""
    others = [*scene.groups(), *scene.iothreads()]
    arguments["tls-creds"] = scene.choose.one_of(["missing", *others])
    return True


def unknown_export(_scene: Scene, arguments: Arguments) -> bool:
    """An export that does not exist."""
    arguments["id"] = "missing"
    return True


def without_force(_scene: Scene, arguments: Arguments) -> bool:
    """A move that must not disturb anybody."""
    return arguments.pop("force", None) is not None


def exported_without_force(scene: Scene, arguments: Arguments) -> bool:
    """A move of a node that somebody uses, without force."""
    names = [x.name for x in scene.everything if any(len(key) > 2 for key in x.parents)]  # noqa: PLR2004  # a user, not a link
    if not names:
        return False
    arguments["node-name"] = scene.choose.one_of(names)
    arguments.pop("force", None)
    return True


JOB_SPOILS: Final[dict[str, tuple[Spoil, ...]]] = {
    "block-commit": (
        *_ANY,
        _any_of("base-node"),
        _any_of("top-node", "base-node"),
        top_is_base,
        only_filters,
        upside_down,
        both_ways,
        wrong_file,
        wrong_file,
        backing_file,
    ),
    "block-stream": (
        *_ANY,
        _any_of("base-node"),
        filters_in_chain,
        two_ends,
        two_ends,
        wrong_end,
        wrong_end,
        stream_file,
        backing_file,
    ),
    "blockdev-mirror": (
        *_ANY,
        same_node,
        other_target,
        target_below,
        filter_of_chain,
        other_length,
        bad_granularity,
        bad_granularity,
        bad_buffer,
        wrong_replaced,
        wrong_replaced,
        mirror_by_bitmap,
    ),
    "blockdev-backup": (
        *_ANY,
        same_node,
        other_target,
        target_below,
        other_length,
        bitmap_sync,
        fixed_bitmap_mode,
        bitmap_of_its_own,
        compressed,
        *(bad_pace,) * 3,
    ),
    "block-export-add": (
        export_id_taken,
        bad_export_id,
        unknown_node,
        other_threads,
        write_read_only,
        write_read_only,
        export_name_taken,
        long_name,
        unknown_bitmap,
        bitmap_elsewhere,
        bitmap_elsewhere,
    ),
    "block-export-del": (unknown_export,),
    "nbd-server-start": (bad_address, no_credentials),
    "x-blockdev-set-iothread": (
        unknown_node,
        unknown_thread,
        without_force,
        exported_without_force,
    ),
    **{
        f"{family}-{verb}": (unknown_job,)
        for family in ("job", "block-job")
        for verb in ("cancel", "complete", "dismiss", "finalize", "pause", "resume")
    },
    "block-job-set-speed": (unknown_job, bad_speed),
}
