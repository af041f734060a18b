# SPDX-License-Identifier: GPL-2.0-or-later
"""x-blockdev-set-iothread, and how commands name an iothread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.commands.nodes import UNKNOWN
from model.graph import aio_contexts
from model.release.rules import guard, outside
from model.release.scope import takes
from model.values.state import IOThread, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition

HAS_BACKEND = guard(
    "set-iothread.has-backend",
    "A node that a block backend uses is moved by force only.",
    source="7.2",
    text="Node {node} is associated with a BlockBackend and could be in use (use force=true to "
    "override this check)",
)
NO_IOTHREAD = guard(
    "set-iothread.unknown",
    "The iothread that a node is moved to exists.",
    source="7.2",
    text="Cannot find iothread {iothread}",
)
_LINK = "iothread"
"""What a device calls its iothread, which makes that a part of a path that leads there."""

THROUGH_DEVICE = outside(
    "set-iothread.through-device",
    "An iothread is not named by the way to it through a device that has asked for it.",
    text="'{path}' as the way to an iothread, with a device that has one, is not modelled",
)


def has_backend(t: Transition, node: str) -> bool:
    """Whether a block backend uses a node itself."""
    return any(
        isinstance(key, Use) and t.users[key.user].kind == "block-backend"
        for key in t.nodes[node].parents
    )


def find_iothread(t: Transition, path: str) -> str | None:
    """The iothread that a path in QEMU's tree of objects leads to, or its end if that is unique.

    Clients give the bare name, which is the end of such a path.
    """
    parts = [part for part in path.split("/") if part]
    if parts[-1:] == [_LINK] and any(device.iothread for device in t.devices.values()):
        t.ev.leave(THROUGH_DEVICE, THROUGH_DEVICE.id, path=path)
    found = []
    for name, thing in t.objects.items():
        full = ["objects", name]
        wanted = full if path.startswith("/") else full[len(full) - len(parts) :]
        if isinstance(thing, IOThread) and parts == wanted:
            found.append(name)
    return found[0] if len(found) == 1 else None


@takes("node-name", "iothread", "force")
def x_blockdev_set_iothread(t: Transition, arguments: dict[str, Any]) -> None:
    """Move a node, and what is connected with it, to an iothread or to the main loop."""
    ev = t.ev
    name, wanted = arguments["node-name"], arguments["iothread"]
    ev.check(UNKNOWN, name in t.nodes, node=name)
    ev.check(HAS_BACKEND, arguments.get("force", False) or not has_backend(t, name), node=name)
    context: str | None = aio_contexts.MAIN
    if wanted is not None:
        context = find_iothread(t, wanted)
    if context is None:
        ev.refuse(NO_IOTHREAD, iothread=wanted)
        return
    ev.accepted.add(NO_IOTHREAD.id)
    with aio_contexts.locked(t, name):
        aio_contexts.change(t, name, context)
