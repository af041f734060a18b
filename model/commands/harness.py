# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands of our own, which drive a target instead of asking it: no QEMU knows them.

They stand in traces between QMP commands, so that what a real target has to wait for, and
what a guest does meanwhile, is written down and can be replayed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from model.commands import guest
from model.commands.devices import PERIPHERAL, UNPLUGGED
from model.commands.exports import block_export_add, block_export_del
from model.commands.objects import object_add
from model.data import requests
from model.graph.sizes import foresee
from model.graph.traversal import above, length_of
from model.jobs import lifecycle
from model.release.rules import effect, guard, outside
from model.release.scope import SCOPES
from model.values.image_layout import ImageError
from model.values.trace import OBJECT, READ, WAIT, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.graph.transition import Transition
    from model.release.rules import Evaluation

_EXPORT = "reopencheck"

NOT_REACHED = guard(
    "wait.not-reached",
    "The job comes to the status that is waited for.",
    source="our own",
    text="Job '{id}' does not come to the status '{status}' but to '{got}'",
    unreachable="the generator waits for what the model says",
)


WRONG = outside(
    "driving.wrong",
    "One of our own commands is given what it needs.",
    text="{name} {what} is not modelled",
)
WAITS_FOR_DRAIN = effect(
    "guest.waits-for-drain",
    "A guest of an export waits while a job has drained the node: before its end, a mirror has.",
    source="5.2",
)


def wait(t: Transition, arguments: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job to reach a ``status``, "null" if it is to be gone.

    A device is known by its path; it comes to no other status than that of being unplugged.

    With ``progress`` (bytes), until a job that sleeps has done so much. In the model jobs have
    come to rest already.
    """
    if str(arguments["id"]).startswith(PERIPHERAL):
        return {"status": UNPLUGGED}
    job = t.jobs.get(arguments["id"])
    status = "null" if job is None else job.status
    wanted = arguments["status"]
    t.ev.check(NOT_REACHED, status == wanted, id=arguments["id"], status=wanted, got=status)
    return {"status": status}


@contextmanager
def _exported(t: Transition, node: str, *, writable: bool) -> Iterator[None]:
    """Export a node for as long as a guest uses it, without anybody's hearing of it.

    That may be refused as for every export, and leaves behind what every export does.
    """
    drained = above(t.nodes, lifecycle.drained(t))
    stuck = node in drained and t.ev.holds(WAITS_FOR_DRAIN)
    t.ev.check(requests.NO_GUEST, not stuck, text=f"node {node!r} is drained; QEMU hangs")
    before = t.nbd_server
    t.nbd_server = before or _EXPORT
    export = {"type": "nbd", "id": _EXPORT, "node-name": node, "writable": writable}
    try:
        block_export_add(t, {**export, "name": _EXPORT})
        try:
            yield
        except ImageError as error:
            t.ev.refuse(requests.NO_GUEST, text=str(error))
        finally:
            events = len(t.events)
            block_export_del(t, {"id": _EXPORT})
            del t.events[events:]
    finally:
        t.nbd_server = before


_MOST: Final = 4 << 30
"""How many bytes a guest reads or writes at most: request by request, more takes too long."""


def _check_amount(t: Transition, length: int) -> None:
    t.ev.check(requests.NO_GUEST, length <= _MOST, text=f"{length} bytes are more than {_MOST}")


def read(t: Transition, arguments: dict[str, Any]) -> list[list[int]]:
    """What a guest reads through ``node``: runs ``[start, end, value]`` of bytes but zero."""
    name = arguments["node"]
    data: list[tuple[int, int, int]] = []
    with _exported(t, name, writable=False):
        _check_amount(t, length_of(t, name))
        data = guest.runs(t, name, 0, length_of(t, name))
    return [list(run) for run in data]


def write(t: Transition, arguments: dict[str, Any]) -> None:
    """Write ``length`` bytes of the value ``pattern`` from ``offset`` through ``node``."""
    name = arguments["node"]
    with _exported(t, name, writable=True):
        offset, length = arguments["offset"], arguments["length"]
        requests.check_range(t, name, offset, length)
        _check_amount(t, length)
        foresee(t, length // requests.REQUEST)
        for start in range(offset, offset + length, requests.REQUEST):
            count = min(requests.REQUEST, offset + length - start)
            guest.write(t, name, start, count, arguments["pattern"])


def have_object(t: Transition, arguments: dict[str, Any]) -> None:
    """Have an object from the start, as ``--object`` makes it: arguments as of ``object-add``.

    These commands come before all others. A release without ``object-add`` has no other objects.
    """
    object_add(t, arguments)


DRIVING: dict[str, Callable[[Transition, dict[str, Any]], Any]] = {
    WAIT: wait,
    READ: read,
    WRITE: write,
    OBJECT: have_object,
}


_MEMBERS: Final[dict[str, dict[str, type]]] = {
    WAIT: {"id": str, "status": str, "progress": int},
    READ: {"node": str},
    WRITE: {"node": str, "offset": int, "length": int, "pattern": int},
    OBJECT: {"qom-type": str, "id": str},
}
_OPTIONAL: Final = frozenset({"progress"})


def check_driving(ev: Evaluation, name: str, arguments: dict[str, Any]) -> None:
    """Raise ``NotModelledError`` unless one of our own commands has what it needs, and no more."""
    members = _MEMBERS[name]
    for key, kind in members.items():
        value = arguments.get(key)
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits and (key in arguments or key not in _OPTIONAL):
            ev.leave(WRONG, name, name=name, what=f"without a fitting {key!r}")
    for key, value in arguments.items():
        if key not in members and not (name == OBJECT and _is_property(arguments, key, value)):
            ev.leave(WRONG, name, name=name, what=f"with {key!r}")


def _is_property(arguments: dict[str, Any], key: str, value: Any) -> bool:
    """Whether an object can be given this, as far as no schema says so."""
    kind = SCOPES[object_add].variants.get(arguments["qom-type"])
    if kind is None:
        # What object it is decides, and nobody looks at its properties.
        return True
    inner = value if isinstance(value, dict) else {"": value}
    fits = isinstance(value, dict) == (key in kind.nested)
    return (
        fits
        and bool(kind.kind(key))
        and all(
            type(each) is int and (not name or bool(kind.kind(f"{key}.{name}")))
            for name, each in inner.items()
        )
    )
