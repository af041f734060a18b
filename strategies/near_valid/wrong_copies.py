# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the arguments of a mirror or a backup.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strategies.choices.drivers import FILTERS
from strategies.choices.option_values import KIB, LEAST, MIB
from strategies.near_valid.wrong_jobs import ANY_JOB

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Arguments, Fault


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


MIRROR_FAULTS: Final[tuple[Fault, ...]] = (
    *ANY_JOB,
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
)

BACKUP_FAULTS: Final[tuple[Fault, ...]] = (
    *ANY_JOB,
    same_node,
    other_target,
    target_below,
    other_length,
    bitmap_sync,
    fixed_bitmap_mode,
    bitmap_of_its_own,
    compressed,
    *(bad_pace,) * 3,
)
