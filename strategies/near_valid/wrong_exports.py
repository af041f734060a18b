# SPDX-License-Identifier: GPL-2.0-or-later
"""One wrong thing in the arguments of an export, an NBD server or a move to another thread.

See :mod:`strategies.near_valid.fault`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from strategies.builders.scene import Scene
    from strategies.near_valid.fault import Arguments, Fault


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
    if "addr" not in arguments:
        return False
    path = scene.choose.one_of(("missing/nbd.sock", "x" * 200))
    arguments["addr"] = {"type": "unix", "data": {"path": path}}
    return True


def no_credentials(scene: Scene, arguments: Arguments) -> bool:
    """Credentials that do not exist, or an object that is none."""
    if "addr" not in arguments:
        return False
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


EXPORT_FAULTS: Final[tuple[Fault, ...]] = (
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
)

EXPORT_DELETION_FAULTS: Final[tuple[Fault, ...]] = (unknown_export,)

SERVER_FAULTS: Final[tuple[Fault, ...]] = (bad_address, no_credentials)

MOVE_FAULTS: Final[tuple[Fault, ...]] = (
    unknown_node,
    unknown_thread,
    without_force,
    exported_without_force,
)
