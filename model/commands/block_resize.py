# SPDX-License-Identifier: GPL-2.0-or-later
"""block_resize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.data.length import look_again
from model.edits import block_backends
from model.graph.aio_contexts import LOCK_KEPT, locked
from model.graph.op_blockers import blocked, check_free
from model.operations.open import NO_NODE
from model.operations.resize import truncate
from model.release.rules import effect, guard
from model.release.scope import takes
from model.values.state import Perm

if TYPE_CHECKING:
    from model.graph.transition import Transition

RESIZE_NEGATIVE = guard(
    "resize.negative",
    "A size is not negative.",
    source="7.2",
    text="Parameter 'size' expects a >0 size",
)
RESIZE_BUSY = guard(
    "resize.busy",
    "A backing file is busy: it is not resized.",
    source="7.2; the message prints a device name that nobody gave",
    text="Device '{device}' is in use",
)
RESIZE_SAYS_WHO = effect(
    "resize.says-who",
    "Whoever blocks a resize is named in the refusal.",
    source="10.0; before, see resize.busy",
)


@takes("device", "node-name", "size")
def block_resize(t: Transition, arguments: dict[str, Any]) -> None:
    """Give a node another size, in bytes."""
    ev = t.ev
    name, size = arguments.get("node-name", ""), arguments["size"]
    device = arguments.get("device", "")
    ev.check(NO_NODE, name in t.nodes, device=device, node=name)
    ev.check(RESIZE_NEGATIVE, size >= 0)
    given = arguments.get("device", "(null)")
    ev.check(RESIZE_BUSY, not blocked(t, name, "resize"), device=given)
    if ev.holds(RESIZE_SAYS_WHO):
        check_free(t, name, "resize")
    context = t.nodes[name].context
    user = block_backends.take(t, "resize", name, (Perm.RESIZE, Perm.ALL), context=context)
    try:
        truncate(t, name, size)
    finally:
        with locked(t, name):
            block_backends.let_go(t, user)
        if t.nodes[name].context != context:
            ev.meet(LOCK_KEPT)
    look_again(t)
