# SPDX-License-Identifier: GPL-2.0-or-later
"""What the options of a node may hold: the largest of the tables of :mod:`targets.allowed`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from targets.holding import (
    ANY_NUMBER,
    CONFIG,
    FILE,
    FLAG,
    NAME,
    WORD,
    Kind,
    Refused,
    check_members,
    either,
    header_name,
    image_name,
    list_of,
    number,
    odd,
    one_of,
    record,
    shown,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.values.trace import Json

_MIB = 1024 * 1024

DRIVERS = frozenset(
    {
        "blkdebug",
        "blkverify",
        "compress",
        "copy-before-write",
        "copy-on-read",
        "file",
        "host_device",
        "null-aio",
        "null-co",
        "preallocate",
        "qcow",
        "qcow2",
        "quorum",
        "raw",
        "replication",
        "throttle",
        "vpc",
    }
)
"""Block drivers: those that the spec models, and a few of which it models the options.

All others reach a server, a device or a directory, read names from the content of files, or are
of no use to a trace.
"""

SEE = "`reopencheck rules --allowed` lists them"
_DRIVER = one_of("driver", DRIVERS, SEE)


def _options(value: Json, strict: bool) -> None:
    """Check the options of a node."""
    if not isinstance(value, dict):
        if strict:
            raise Refused(f"in a json: name, {shown(value)} describes no node")
        odd(value, strict)
        return
    if strict and "driver" not in value:
        # QEMU would look at the file to find out.
        raise Refused("in a json: name, a node has a driver")
    check_members(value, BLOCK, BLOCK_REFUSED, strict)


def _options_or_null(value: Json, strict: bool) -> None:
    if value is not None:
        _options(value, strict)


OPTIONS = Kind("node", "the options of a node, as `blockdev-add` takes them", _options)
CHILD = either(
    text=NAME,
    other=Kind("node", "", _options_or_null),
    means="a node: its name, or its options",
)
IMAGE = Kind(
    "image",
    "a plain file name, or what QEMU calls a node: `blkdebug:...`, `blkverify:...`, `null-co://`, "
    "or `json:` and the options of a node, each option with a value of its type",
    image_name(_options),
)
HEADER = Kind("image for a header", f"{IMAGE.means}; at most 200 characters", header_name(_options))

_CACHE = number(64 * _MIB, refused_from=2**60)
TIME = number(1_000_000)
_PIECE = number(64 * _MIB, refused_from=2**31)

_EVENT = {"event": WORD, "state": ANY_NUMBER, "iotype": WORD, "errno": ANY_NUMBER}
_INJECTION = record(
    {**_EVENT, "sector": ANY_NUMBER, "once": FLAG, "immediately": FLAG, "delay-ns": TIME}
)
_STATE = record({"event": WORD, "state": ANY_NUMBER, "new_state": ANY_NUMBER})
BITMAP = record({"node": NAME, "name": NAME})
_OVERLAPS = (
    "main-header",
    "active-l1",
    "active-l2",
    "refcount-table",
    "refcount-block",
    "snapshot-table",
    "inactive-l1",
    "inactive-l2",
    "bitmap-directory",
)
ENCRYPTION = record({"format": WORD, "key-secret": NAME})

BLOCK: Mapping[str, Kind] = {
    # of every driver
    "driver": _DRIVER,
    "node-name": NAME,
    "active": FLAG,
    "auto-read-only": FLAG,
    "cache": record({"direct": FLAG, "no-flush": FLAG}),
    "detect-zeroes": WORD,
    "discard": WORD,
    "force-share": FLAG,
    "read-only": FLAG,
    # children
    "backing": CHILD,
    "children": list_of(CHILD),
    "data-file": CHILD,
    "file": CHILD,
    "image": CHILD,
    "raw": CHILD,
    "target": CHILD,
    "test": CHILD,
    # file, host_device
    "filename": FILE,
    "aio": WORD,
    "aio-max-batch": ANY_NUMBER,
    "drop-cache": FLAG,
    "locking": WORD,
    "pr-manager": NAME,
    "x-check-cache-dropped": FLAG,
    # null-co, null-aio, raw
    "latency-ns": number(10**6, refused_from=2**63),
    "offset": ANY_NUMBER,
    "read-zeroes": FLAG,
    "size": ANY_NUMBER,
    # qcow2, qcow
    "cache-clean-interval": ANY_NUMBER,
    "cache-size": _CACHE,
    "discard-no-unref": FLAG,
    "encrypt": ENCRYPTION,
    "l2-cache-entry-size": _CACHE,
    "l2-cache-size": _CACHE,
    "lazy-refcounts": FLAG,
    "overlap-check": either(
        text=WORD,
        other=record({"template": WORD, **dict.fromkeys(_OVERLAPS, FLAG)}),
        means="a word, or an object of flags",
    ),
    "pass-discard-other": FLAG,
    "pass-discard-request": FLAG,
    "pass-discard-snapshot": FLAG,
    "refcount-cache-size": _CACHE,
    # blkdebug
    "align": _PIECE,
    "config": CONFIG,
    "inject-error": list_of(_INJECTION),
    "max-discard": ANY_NUMBER,
    "max-transfer": ANY_NUMBER,
    "max-write-zero": ANY_NUMBER,
    "opt-discard": ANY_NUMBER,
    "opt-write-zero": ANY_NUMBER,
    "set-state": list_of(_STATE),
    "take-child-perms": list_of(WORD),
    "unshare-child-perms": list_of(WORD),
    # quorum
    "blkverify": FLAG,
    "read-pattern": WORD,
    "rewrite-corrupted": FLAG,
    "vote-threshold": ANY_NUMBER,
    # preallocate
    "prealloc-align": _PIECE,
    "prealloc-size": number(64 * _MIB),
    # copy-on-read, copy-before-write, throttle, replication
    "bitmap": BITMAP,
    "bottom": NAME,
    "cbw-timeout": number(60),
    "min-cluster-size": number(2**32, refused_from=2**63),
    "mode": WORD,
    "on-cbw-error": WORD,
    "throttle-group": NAME,
    "top-id": NAME,
}
"""The options of nodes, whichever of the drivers they belong to; QEMU refuses those of others."""

BLOCK_REFUSED = words("""
    auth-client-required conf cookie cookie-secret debug device dir export fat-type floppy
    force-range group header header-digest host-key-check initiator-name key-secret label
    log log-append log-sector-size log-super-update-interval logfile lun namespace open-timeout
    page-cache-size password-secret path pool portal proxy-password-secret proxy-username readahead
    readahead-size reconnect-delay rw server snap-id snapshot sslverify tag tcp-syn-count timeout
    tls-creds tls-hostname transport url user username vdi volume x-dirty-bitmap
    """)
"""Options of drivers that are not allowed."""
