# SPDX-License-Identifier: GPL-2.0-or-later
"""object-add and object-del, for throttle groups and iothreads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs

from model.release.rules import effect, guard, hazard, outside
from model.release.scope import Outside, scope, takes
from model.values.qdict import in_order
from model.values.state import FrozenDict, IOThread, ThrottleGroup

if TYPE_CHECKING:
    from collections.abc import Collection

    from model.graph.transition import Transition
    from model.release.rules import Evaluation

ID_FORM = guard(
    "object.id",
    "An object's name begins with a letter and has letters, digits, '-', '.' and '_'.",
    source="7.2",
    text="Parameter 'id' expects an identifier",
)
DUPLICATE = guard(
    "object.duplicate",
    "Object names are unique, and none is called as their container's own property is.",
    source="7.2",
    text="attempt to add duplicate property '{id}' to object (type 'container')",
)
NOT_FOUND = guard(
    "object.unknown",
    "An object to delete exists.",
    source="7.2",
    text="object '{id}' not found",
)
IN_USE = guard(
    "object.in-use",
    "A throttle group with members is not deleted.",
    source="7.2",
    text="object '{id}' is in use, can not be deleted",
)
IOTHREAD_USED = hazard(
    "hazard.iothread-in-use",
    "An iothread is deleted while nodes live in it, or a job that ended there is not dismissed, or "
    "one that was paused there has not gone on since.",
    source="7.2 frees what they go on using and ends with an assertion, at once or soon",
)
IOTHREAD_KEPT = guard(
    "iothread.in-use",
    "An iothread where a node lives is not deleted.",
    source="our own: see hazard.iothread-in-use",
    text="object '{id}' is in use, can not be deleted",
    unreachable="the daemon ends there: see hazard.iothread-in-use",
)
KEPT_BY_DEVICE = effect(
    "device.keeps-iothread",
    "An iothread that a device asked for goes on, without a name, when it is deleted.",
    source="7.2 (emulator)",
)
NO_TYPE = guard(
    "object.no-type",
    "The program has objects of the type: the schema is that of all programs of a release.",
    source="7.2",
    text="invalid object type: {type}",
    unreachable="the generator asks for no other types of objects than the two",
)
UNSUPPORTED = outside(
    "object.unsupported",
    "Only throttle groups and iothreads are modelled.",
    text="an object of the type '{type}' is not modelled",
)
X_NEGATIVE = guard(
    "throttle-group.property-negative",
    "A limit that is given as a property is not negative.",
    source="7.2",
    text="Property values cannot be negative",
)
X_LENGTH = guard(
    "throttle-group.property-length",
    "A burst length that is given as a property fits 32 bits.",
    source="7.2, with its missing blank",
    text="{key} value must be in therange [0, 4294967295]",
)
LENGTH_RANGE = guard(
    "throttle-group.length-range",
    "A burst length fits 32 bits.",
    source="7.2",
    text="{key} value must be in the range [0, 4294967295]",
)
LENGTH_ZERO = guard(
    "throttle-group.length-zero",
    "A burst lasts at least a second.",
    source="7.2",
    text="the burst length cannot be 0",
)
TOTAL_AND_PARTS = guard(
    "throttle-group.total-and-parts",
    "A total limit excludes limits for reads and writes.",
    source="7.2",
    text="bps/iops/max total values and read/write values cannot be used at the same time",
)
SIZE_ALONE = guard(
    "throttle-group.size-alone",
    "An I/O size needs a limit on I/O operations.",
    source="7.2",
    text="iops size requires an iops value to be set",
)
RANGE = guard(
    "throttle-group.range",
    "Limits lie between 0 and 10^15.",
    source="7.2",
    text="bps/iops/max values must be within [0, 1000000000000000]",
)
LENGTH_ALONE = guard(
    "throttle-group.length-alone",
    "A burst length needs a burst rate.",
    source="7.2",
    text="burst length set without burst rate",
)
BURST_TOO_LONG = guard(
    "throttle-group.burst-too-long",
    "Burst rate times length fits the range of limits.",
    source="7.2",
    text="burst length too high for this burst rate",
)
MAX_ALONE = guard(
    "throttle-group.max-alone",
    "A burst rate needs a limit.",
    source="7.2",
    text="bps_max/iops_max require corresponding bps/iops values",
)
MAX_LOW = guard(
    "throttle-group.max-low",
    "A burst rate is not below its limit.",
    source="7.2",
    text="bps_max/iops_max cannot be lower than bps/iops",
)
IOTHREAD_RANGE = guard(
    "iothread.range",
    "The settings of an iothread are not negative.",
    source="7.2",
    text="{key} value must be in range [0, 9223372036854775807]",
)
IOTHREAD_WEIGHT = guard(
    "iothread.poll-weight",
    "The weight of an iothread's last polling time is a shift of at most 63 bits.",
    source="11.1, the first to have it",
    text="{key} value must be in range [0, 63]",
)
IOTHREAD_POOL = guard(
    "iothread.pool",
    "The smallest thread pool is not larger than the largest.",
    source="7.2",
    text="bad thread-pool-min/thread-pool-max values",
)

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
_RESERVED = "type"
"""What no object can be called: the container of all objects has a property of that name."""
_MAX = 10**15
_UINT_MAX = (1 << 32) - 1
_INT_MAX = (1 << 31) - 1
_MOST_SHIFT = 63
_BUCKETS = ("bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write")
_IOTHREAD_INTEGERS = (
    "poll-max-ns",
    "poll-grow",
    "poll-shrink",
    "poll-weight",
    "aio-max-batch",
    "thread-pool-min",
    "thread-pool-max",
)


_BUCKET_KEYS = tuple(f"{b}{end}" for b in _BUCKETS for end in ("", "-max", "-max-length"))
_GROUP_KEYS = (*_BUCKET_KEYS, "iops-size")
_THROTTLED = Outside(
    "how long requests wait for a limit",
    when="something is read or written through a node of the group, and its limits are low",
)


def check_type(t: Transition, arguments: dict[str, Any], types: Collection[str]) -> None:
    """An object of one of the ``types`` that the program has is asked for, or it is refused."""
    kind = arguments["qom-type"]
    if kind not in types:
        t.ev.check(ID_FORM, _ID.match(arguments["id"]))
        t.ev.refuse(NO_TYPE, type=kind)
    t.ev.accepted.add(NO_TYPE.id)


@takes(
    "qom-type",
    "id",
    variants={
        "iothread": scope(*_IOTHREAD_INTEGERS),
        "throttle-group": scope(
            "limits",
            outside=dict.fromkeys(
                [*(f"limits.{key}" for key in _GROUP_KEYS), *(f"x-{key}" for key in _GROUP_KEYS)],
                _THROTTLED,
            ),
        ),
    },
)
def object_add(t: Transition, arguments: dict[str, Any]) -> None:
    """Make an object."""
    ev = t.ev
    kind, name = arguments["qom-type"], arguments["id"]
    ev.check(ID_FORM, _ID.match(name))
    if kind not in ("throttle-group", "iothread"):
        ev.leave(UNSUPPORTED, f"object-add/{kind}", type=kind)
    properties = {k: v for k, v in arguments.items() if k not in ("qom-type", "id")}
    if kind == "iothread":
        _check_iothread_properties(ev, properties)
    else:
        limits = _limits(ev, properties)
    ev.check(DUPLICATE, name not in t.objects and name != _RESERVED, id=name)
    if kind == "iothread":
        low, high = properties.get("thread-pool-min", 0), properties.get("thread-pool-max", 64)
        ev.check(IOTHREAD_POOL, 0 < high <= _INT_MAX and low <= high)
        t.objects[name] = IOThread(name)
    else:
        _check_limits(ev, limits)
        t.objects[name] = ThrottleGroup(name, FrozenDict(limits))


def _check_iothread_properties(ev: Evaluation, properties: dict[str, Any]) -> None:
    for key in in_order(properties):
        if key == "poll-weight":
            ev.check(IOTHREAD_WEIGHT, 0 <= properties[key] <= _MOST_SHIFT, key=key)
        elif key in _IOTHREAD_INTEGERS:
            ev.check(IOTHREAD_RANGE, properties[key] >= 0, key=key)


def _limits(ev: Evaluation, properties: dict[str, Any]) -> dict[str, int]:
    """The limits from ``x-`` properties and from ``limits``.

    ``limits`` are checked when they are set, together with what came before them.
    """
    limits: dict[str, int] = {}
    for key in in_order(properties):
        if key != "limits":
            value = properties[key]
            name = key.removeprefix("x-")
            ev.check(X_NEGATIVE, value >= 0)
            if name.endswith("-length"):
                ev.check(X_LENGTH, value <= _UINT_MAX, key=key)
            limits[name] = value
            continue
        for name, value in properties["limits"].items():
            if name.endswith("-length"):
                ev.check(LENGTH_RANGE, 0 <= value <= _UINT_MAX, key=name)
            limits[name] = value
        _check_limits(ev, limits)
    return limits


def _check_limits(ev: Evaluation, limits: dict[str, int]) -> None:
    rate = {b: limits.get(b, 0) for b in _BUCKETS}
    peak = {b: limits.get(f"{b}-max", 0) for b in _BUCKETS}
    for values in (rate, peak):
        for kind in ("bps", "iops"):
            parts = values[f"{kind}-read"] or values[f"{kind}-write"]
            ev.check(TOTAL_AND_PARTS, not (values[f"{kind}-total"] and parts))
    iops = rate["iops-total"] or rate["iops-read"] or rate["iops-write"]
    ev.check(SIZE_ALONE, not limits.get("iops-size") or iops)
    for bucket in _BUCKETS:
        length = limits.get(f"{bucket}-max-length", 1)
        ev.check(RANGE, 0 <= rate[bucket] <= _MAX and 0 <= peak[bucket] <= _MAX)
        ev.check(LENGTH_ZERO, length)
        ev.check(LENGTH_ALONE, length == 1 or peak[bucket])
        ev.check(BURST_TOO_LONG, peak[bucket] == 0 or length <= _MAX // peak[bucket])
        ev.check(MAX_ALONE, not peak[bucket] or rate[bucket])
        ev.check(MAX_LOW, not peak[bucket] or peak[bucket] >= rate[bucket])


@takes("id")
def object_del(t: Transition, arguments: dict[str, Any]) -> None:
    """Delete an object that nobody uses."""
    ev = t.ev
    name = arguments["id"]
    ev.check(NOT_FOUND, name in t.objects, id=name)
    used = any(n.driver == "throttle" and n.private == name for n in t.nodes.values())
    ev.check(IN_USE, not used or not isinstance(t.objects[name], ThrottleGroup), id=name)
    if isinstance(t.objects[name], IOThread) and not _kept_by_device(t, name):
        _check_iothread_unused(t, name)
    del t.objects[name]


def _check_iothread_unused(t: Transition, name: str) -> None:
    contexts = {node.context for node in t.nodes.values()}
    contexts |= {user.context for user in t.users.values()}
    contexts |= {job.paused_in for job in t.jobs.values()}
    if name in contexts:
        t.ev.meet(IOTHREAD_USED)
        t.ev.refuse(IOTHREAD_KEPT, id=name)
    t.ev.accepted.add(IOTHREAD_KEPT.id)


def _kept_by_device(t: Transition, name: str) -> bool:
    """Whether a device goes on using an iothread; all that lives there then does, too."""
    if all(device.iothread != name for device in t.devices.values()):
        return False
    if not t.ev.holds(KEPT_BY_DEVICE):
        return False
    kept = name + "'"
    while any(device.iothread == kept for device in t.devices.values()):
        kept += "'"
    for key, device in t.devices.items():
        if device.iothread == name:
            t.devices[key] = attrs.evolve(device, iothread=kept)
    for node in list(t.nodes.values()):
        if node.context == name:
            t.change(node.name, context=kept)
    for key, user in t.users.items():
        if user.context == name:
            t.users[key] = attrs.evolve(user, context=kept)
    return True
