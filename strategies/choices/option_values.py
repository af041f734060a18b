# SPDX-License-Identifier: GPL-2.0-or-later
"""Option values worth trying, driver by driver.

The schema knows names and types; which values are interesting is what this table
adds. ``good`` values are accepted by the driver (whether a node can have them is the
graph's business), ``wrong`` ones are refused by it, or by the schema's range.

Left out on purpose, because they differ from host to host or take time: ``aio=io_uring``
for a new node, sizes beyond what a file system takes, injected errors that strike while a
node is opened or flushed, latencies and limits that anything here reaches. Inactive
nodes are not modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from model.values.trace import Json

KIB: Final = 1024
MIB: Final = 1024 * KIB
FAR: Final = 2**31
"""An offset so far that no size fits behind it."""
LARGEST: Final = 2**63 - 2**30
"""The largest size that QEMU takes."""


@attrs.frozen
class Option:
    """One option. ``live``: a reopen may change it and leave it out."""

    name: str
    good: tuple[Json, ...]
    wrong: tuple[Json, ...] = ()
    live: bool = False


_BOOL = (False, True)
_PERMS = ("consistent-read", "write", "write-unchanged", "resize")
_QUIET_EVENTS = ("read_aio", "write_aio", "read_backing_aio", "cor_write", "cow_read")
"""Events that only a guest's requests cause."""

GENERIC: Final = (
    Option("read-only", _BOOL, live=True),
    Option(
        "cache",
        ({"direct": True}, {"no-flush": True}, {"direct": False, "no-flush": False}),
        live=True,
    ),
    Option("discard", ("ignore", "unmap"), live=True),
    Option("detect-zeroes", ("off", "on", "unmap"), live=True),
    Option("auto-read-only", _BOOL, live=True),
    Option("force-share", _BOOL),
    Option("active", (True,)),
)
"""Options of every driver."""

_NULL = (
    Option("size", (MIB, 0, 64 * KIB, 1000, 1024 * MIB), (-1,)),
    Option("latency-ns", (0, 1, 1000), (-1, "1")),
    Option("read-zeroes", _BOOL),
)

_QCOW2 = (
    Option("lazy-refcounts", _BOOL, live=True),
    Option("pass-discard-request", _BOOL, live=True),
    Option("pass-discard-snapshot", _BOOL, live=True),
    Option("pass-discard-other", _BOOL, live=True),
    Option(
        "overlap-check",
        (
            "none",
            "constant",
            "cached",
            "all",
            {"template": "none", "main-header": True},
            {"template": "cached", "inactive-l2": True, "active-l1": False},
            {"snapshot-table": False, "bitmap-directory": True, "refcount-block": False},
            {"active-l2": True, "refcount-table": False, "inactive-l1": True},
        ),
        live=True,
    ),
    Option("cache-size", (MIB, 2 * MIB, 512 * KIB), (4 * KIB, 2**60, -1), live=True),
    Option("l2-cache-size", (64 * KIB, MIB, 0, 128 * KIB + 1), (2**60, -1), live=True),
    Option("l2-cache-entry-size", (64 * KIB, 4 * KIB, 512), (1000, 256, 128 * KIB), live=True),
    Option("refcount-cache-size", (256 * KIB, MIB, 0), (2**60, -1), live=True),
    Option("cache-clean-interval", (0, 600, 3600), (2**33, -1), live=True),
    Option("discard-no-unref", _BOOL, live=True),
    Option("encrypt", (), ({"format": "luks", "key-secret": "sec0"}, {"format": "aes"})),
    Option("data-file", (), ("missing", {"driver": "null-co", "read-zeroes": True})),
)

_RAW = (
    Option("offset", (0, 512, 64 * KIB, 1), (2**40, -512), live=True),
    Option("size", (64 * KIB, 512, 0, 128 * KIB), (2**40, 1000, -512), live=True),
)

_FILE = (
    Option("locking", ("auto", "on", "off")),
    Option("aio", ("threads", "native"), ()),
    Option("aio-max-batch", (0, 1, 16)),
    Option("drop-cache", _BOOL, live=True),
    Option("x-check-cache-dropped", _BOOL, live=True),
    Option("pr-manager", (), ("pr0",)),
)

_BLKDEBUG = (
    Option("align", (512, 4096, 0), (3, 1000, 2**31, -512)),
    Option("max-transfer", (4096, 64 * KIB, 0), (100, 2**31)),
    Option("opt-write-zero", (4096, 64 * KIB, 0), (100, 2**31)),
    Option("max-write-zero", (64 * KIB, MIB, 0), (100, 2**31)),
    Option("opt-discard", (4096, 64 * KIB, 0), (100, 2**31)),
    Option("max-discard", (64 * KIB, MIB, 0), (100, 2**31)),
    Option(
        "inject-error",
        (
            [{"event": _QUIET_EVENTS[0]}],
            [{"event": _QUIET_EVENTS[1], "errno": 28, "once": True, "iotype": "write"}],
            [
                {"event": _QUIET_EVENTS[2], "sector": 8, "immediately": False},
                {"event": _QUIET_EVENTS[3], "state": 7, "iotype": "read"},
            ],
            [],
        ),
    ),
    Option(
        "set-state",
        (
            [{"event": _QUIET_EVENTS[4], "new_state": 2}],
            [
                {"event": _QUIET_EVENTS[0], "state": 1, "new_state": 3},
                {"event": _QUIET_EVENTS[1], "state": 3, "new_state": 1},
            ],
        ),
    ),
    Option(
        "take-child-perms",
        ([_PERMS[1]], [_PERMS[3]], [_PERMS[1], _PERMS[3]], [_PERMS[0]], [_PERMS[2]], []),
    ),
    Option(
        "unshare-child-perms",
        ([_PERMS[1]], [_PERMS[3]], [_PERMS[0]], [_PERMS[2]], [_PERMS[1], _PERMS[3]], []),
    ),
    Option("config", (), ("missing.conf",)),
)

_QUORUM = (
    Option("vote-threshold", (1, 2), (0, -1, 9)),
    Option("blkverify", _BOOL),
    Option("rewrite-corrupted", _BOOL),
    Option("read-pattern", ("quorum", "fifo")),
)

_PREALLOCATE = (
    Option("prealloc-align", (4096, MIB, 64 * KIB, 0), (1000, -1), live=True),
    Option("prealloc-size", (64 * KIB, MIB, 0, 100), (-1,), live=True),
)

OPTIONS: Final[dict[str, tuple[Option, ...]]] = {
    "blkdebug": _BLKDEBUG,
    "blkverify": (),
    "compress": (),
    "copy-on-read": (),
    "file": _FILE,
    "null-aio": _NULL,
    "null-co": _NULL,
    "preallocate": _PREALLOCATE,
    "qcow2": _QCOW2,
    "quorum": _QUORUM,
    "raw": _RAW,
    "throttle": (),
}
"""Each driver's own options but those that name children, files, nodes or objects."""

NAMING: Final = frozenset(
    {"driver", "node-name", "filename", "throttle-group", "bottom", "file", "image"}
    | {"backing", "children", "test", "raw"}
)
"""Options whose values are made from what there is."""

LIMITS: Final[tuple[dict[str, int], ...]] = (
    {"iops-total": 10**9},
    {"bps-total": 10**12, "bps-total-max": 10**13, "bps-total-max-length": 2},
    {"iops-read": 10**9, "iops-write": 10**9, "iops-size": 4096},
    {"bps-read": 10**12, "bps-write": 10**12, "iops-total": 10**9, "iops-total-max": 10**10},
    {},
)
WRONG_LIMITS: Final = (
    {"iops-total": 10**9, "iops-read": 10**9},
    {"iops-total": -1},
    {"bps-total": 10**16},
    {"iops-total-max": 10**9},
    {"iops-total-max-length": 0},
    {"iops-total-max-length": 2},
    {"bps-total": 10**12, "bps-total-max": 10**11},
    {"iops-size": -1},
    {"iops-size": 4096},
    {"bps-total": 10**12, "bps-total-max": 10**13, "bps-total-max-length": 1000},
    {"iops-total": 10**9, "iops-total-max": 10**9, "iops-total-max-length": 2**33},
)
"""Limits as in ``limits``; with ``x-`` in front they are properties of the object itself."""

LEAST: Final = "min-cluster-size"
LEAST_SIZES: Final = (MIB, 128 * KIB, 512, 0)
"""Of the pieces that a backup, or its filter, copies."""

IOTHREAD: Final[tuple[dict[str, int], ...]] = (
    {},
    {"poll-max-ns": 0},
    {"poll-max-ns": 1000, "poll-grow": 2, "poll-shrink": 2},
    {"aio-max-batch": 4},
    {"thread-pool-min": 1, "thread-pool-max": 8},
)
WRONG_IOTHREAD: Final = (
    {"poll-max-ns": -1},
    {"poll-grow": -1},
    {"aio-max-batch": -1},
    {"thread-pool-max": -1},
    {"thread-pool-max": 0},
    {"thread-pool-min": 8, "thread-pool-max": 4},
)
"""Properties of an iothread."""


STICKY: Final = ("active", "aio-max-batch", "force-share")
"""Options that make every later reopen of their node fail: worth having now and then."""


def options_of(driver: str) -> tuple[Option, ...]:
    """The generic options and the driver's own."""
    return _ALL[driver]


_ALL: Final = {driver: GENERIC + own for driver, own in OPTIONS.items()}
LIVE: Final = {
    driver: tuple(option for option in every if option.live) for driver, every in _ALL.items()
}
"""What a reopen may change, by driver."""
FIXED: Final = {
    driver: tuple(option for option in every if not option.live and option.good)
    for driver, every in _ALL.items()
}
"""What it may not."""
REFUSED: Final = {
    driver: tuple(option for option in own if option.wrong) for driver, own in OPTIONS.items()
}
"""What has a value that the driver refuses."""
