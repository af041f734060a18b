# SPDX-License-Identifier: GPL-2.0-or-later
"""What a trace may hold: commands, drivers, objects, devices and exports, member by member.

Whatever is not in these tables is refused. The members called refused are those that a release
has in the same place, and that a trace may not use: without them, a member that nobody here has
heard of could pass for one that no release knows. A test walks the schemas of all releases and
demands that each member is in one of the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from targets.gate.block_options import (
    BITMAP,
    BLOCK,
    BLOCK_REFUSED,
    ENCRYPTION,
    HEADER,
    IMAGE,
    OPTIONS,
    SEE,
    TIME,
)
from targets.gate.file_names import SOCKET
from targets.gate.kinds import (
    ANY_NUMBER,
    EVERY_OTHER,
    FALSE,
    FLAG,
    NAME,
    TEXT,
    WORD,
    Kind,
    either,
    list_of,
    number,
    one_of,
    piece,
    rate,
    record,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

_KIB = 1024
_MIB = 1024 * _KIB

_CREATED = frozenset({"qcow", "qcow2", "vpc"})
"""Formats that blockdev-create makes, of a node that is there."""

_LIMITS = {
    f"{what}-{which}{more}": kind
    for what, least in (("iops", 1_000), ("bps", 1_000_000))
    for which in ("total", "read", "write")
    for more, kind in (("", rate(least)), ("-max", rate(least)), ("-max-length", ANY_NUMBER))
} | {"iops-size": piece(4 * _KIB)}

OBJECTS = frozenset({"iothread", "secret", "throttle-group"})
OBJECT: Mapping[str, Kind] = {
    "qom-type": one_of("object type", OBJECTS, SEE),
    "id": NAME,
    # iothread
    "aio-max-batch": ANY_NUMBER,
    "poll-grow": number(_KIB),
    "poll-max-ns": TIME,
    "poll-shrink": number(_KIB),
    "poll-weight": number(_KIB),
    "thread-pool-max": number(64),
    "thread-pool-min": number(64),
    # throttle-group
    "limits": record(_LIMITS),
    **{f"x-{limit}": kind for limit, kind in _LIMITS.items()},
    # secret
    "data": TEXT,
}
OBJECT_REFUSED = words("""
    addr align attributes author-key-enabled canbus cbitpos chardev close-action compare_timeout
    cpu-affinity devid device dh-cert-file dir discard-data dump endpoint evdev
    expired_scan_cycle fd file filename format grab-toggle grab_all guest-visible-workarounds handle
    height host-data host-nodes hugetlb hugetlbsize id-auth id-block id-list identity if indev
    insert interval iothread iv kernel-hashes keyid legacy-vm-type loaded log max_queue_size maxlen
    mem-path merge mrconfigid mrowner mrownerconfig name netdev node node-affinity notify_dev offset
    opened outdev passwordid path pci-bus pci-dev pmem policy port position prealloc
    prealloc-context prealloc-threads pretty primary_in priority queue queues
    quote-generation-socket readline readonly reduced-phys-bits refresh repeat reserve rom rules
    sanity-check seal secondary_in sept-ve-disable serial server service session-file sev-device
    share size socket status throttle-bps throttle-ops username vcek-disabled verify-peer
    vnet_hdr_support width x-origin x-use-canonical-path-for-ramblock-id y-origin
    """)
"""Members of types of objects that are not allowed."""

DEVICES = frozenset(
    {
        "apic",  # no release lets a client plug in this one and the next
        "scsi-device",
        "scsi-cd",
        "scsi-hd",
        "virtio-blk",
        "virtio-blk-pci",
        "virtio-scsi",
        "virtio-scsi-pci",
    }
)
DEVICE: Mapping[str, Kind] = {
    "driver": one_of("device", DEVICES, SEE),
    "id": NAME,
    "addr": WORD,
    "bootindex": ANY_NUMBER,
    "bootsector": WORD,
    "bus": NAME,
    "channel": ANY_NUMBER,
    "drive": NAME,
    "iothread": NAME,
    "lun": ANY_NUMBER,
    "scsi-id": ANY_NUMBER,
    "serial": NAME,
    "share-rw": FLAG,
    "write-cache": WORD,
}
"""Properties of devices (bootsector is one that no device has)."""

EXPORTS = frozenset({"nbd"})
_IOTHREADS = either(text=NAME, other=list_of(NAME), means="the name of an iothread, or a list")
_BITMAPS = list_of(either(text=NAME, other=BITMAP, means="a name, or a bitmap of a node"))

_ADDRESS = record(
    {
        "type": one_of("address", {"unix"}, "use a Unix socket in the scratch directory"),
        "data": record(
            {"path": SOCKET, "abstract": FALSE, "tight": FLAG},
            words("""
            cid dport has-ipv4 host ipv4 ipv6 keep-alive mptcp numeric port str to keep-alive-count
            keep-alive-idle keep-alive-interval
            """),
        ),
    },
    words("abstract cid host path port str tight"),
)

_JOB = {"job-id": NAME, "device": NAME, "filter-node-name": NAME}
_PACE = {"speed": ANY_NUMBER, "auto-finalize": FLAG, "auto-dismiss": FLAG}
_ON_ERRORS = {"on-source-error": WORD, "on-target-error": WORD}
_BUFFER = number(64 * _MIB)


@attrs.frozen
class Allowed:
    """The members that a command may have, and those that it may not though a release has them.

    :func:`targets.gate.kinds.unknown` decides about all others.
    """

    members: Mapping[str, Kind] = attrs.Factory(dict)
    refused: Container[str] = frozenset()


def _takes(**members: Kind) -> Allowed:
    return Allowed({name.replace("_", "-"): kind for name, kind in members.items()})


_ID, _DEVICE = _takes(id=NAME), _takes(device=NAME)

COMMANDS: Mapping[str, Allowed] = {
    "block-commit": Allowed(
        {
            **_JOB,
            **_PACE,
            "backing-file": HEADER,
            "backing-mask-protocol": FLAG,
            "base": IMAGE,
            "base-node": NAME,
            "on-error": WORD,
            "top": IMAGE,
            "top-node": NAME,
        }
    ),
    "block-export-add": Allowed(
        {
            "type": one_of("export type", EXPORTS, "use nbd"),
            "id": NAME,
            "node-name": NAME,
            "allocation-depth": FLAG,
            "allow-inactive": FLAG,
            "bitmaps": _BITMAPS,
            "description": TEXT,
            "fixed-iothread": FLAG,
            "iothread": _IOTHREADS,
            "name": NAME,
            "writable": FLAG,
            "writethrough": FLAG,
        },
        words(
            "addr allow-other growable logical-block-size mountpoint num-queues queue-size serial"
        ),
    ),
    "block-export-del": _takes(id=NAME, mode=WORD),
    "block-job-cancel": _takes(device=NAME, force=FLAG),
    "block-job-complete": _DEVICE,
    "block-job-dismiss": _ID,
    "block-job-finalize": _ID,
    "block-job-pause": _DEVICE,
    "block-job-resume": _DEVICE,
    "block-job-set-speed": _takes(device=NAME, speed=ANY_NUMBER),
    "block-stream": Allowed(
        {
            **_JOB,
            **_PACE,
            "backing-file": HEADER,
            "backing-mask-protocol": FLAG,
            "base": IMAGE,
            "base-node": NAME,
            "bottom": NAME,
            "on-error": WORD,
        }
    ),
    "block_resize": _takes(device=NAME, node_name=NAME, size=ANY_NUMBER),
    "blockdev-add": Allowed(BLOCK, BLOCK_REFUSED),
    "blockdev-backup": Allowed(
        {
            **_JOB,
            **_PACE,
            **_ON_ERRORS,
            "bitmap": NAME,
            "bitmap-mode": WORD,
            "compress": FLAG,
            "discard-source": FLAG,
            "on-cbw-error": WORD,
            "sync": WORD,
            "target": NAME,
            "x-perf": record(
                {
                    "max-chunk": _BUFFER,
                    "max-workers": number(64, refused_from=2**31),
                    "min-cluster-size": BLOCK["min-cluster-size"],
                    "use-copy-range": FLAG,
                }
            ),
        }
    ),
    "blockdev-create": Allowed(
        {
            "job-id": NAME,
            "options": record(
                {
                    "driver": one_of("driver", _CREATED, f"use {', '.join(sorted(_CREATED))}"),
                    "encrypt": ENCRYPTION,
                    "file": NAME,
                    "force-size": FLAG,
                    "size": number(1024 * _MIB),
                },
                EVERY_OTHER,
            ),
        },
        EVERY_OTHER,
    ),
    "blockdev-del": _takes(node_name=NAME),
    "blockdev-mirror": Allowed(
        {
            **_JOB,
            **_PACE,
            **_ON_ERRORS,
            "buf-size": _BUFFER,
            "copy-mode": WORD,
            "granularity": ANY_NUMBER,
            "replaces": NAME,
            "sync": WORD,
            "target": NAME,
            "target-is-zero": FLAG,
        }
    ),
    "blockdev-reopen": _takes(options=list_of(OPTIONS)),
    "blockdev-snapshot": _takes(node=NAME, overlay=NAME),
    "chardev-add": Allowed(
        {
            "id": NAME,
            "backend": record(
                {
                    "type": one_of("character device", {"null"}, "use null"),
                    "data": record({}, EVERY_OTHER),
                },
                EVERY_OTHER,
            ),
        },
        EVERY_OTHER,
    ),
    "device_add": Allowed(DEVICE, EVERY_OTHER),
    "device_del": _ID,
    "job-cancel": _ID,
    "job-complete": _ID,
    "job-dismiss": _ID,
    "job-finalize": _ID,
    "job-pause": _ID,
    "job-resume": _ID,
    "nbd-server-start": _takes(
        addr=_ADDRESS,
        handshake_max_seconds=number(60),
        max_connections=number(_KIB),
        tls_authz=NAME,
        tls_creds=NAME,
    ),
    "nbd-server-stop": Allowed(),
    "object-add": Allowed(OBJECT, OBJECT_REFUSED),
    "object-del": _ID,
    "qmp_capabilities": _takes(enable=list_of(WORD)),
    "query-block": _takes(flat=FLAG),
    "query-block-exports": Allowed(),
    "query-block-jobs": Allowed(),
    "query-blockstats": _takes(query_nodes=FLAG),
    "query-commands": Allowed(),
    "query-iothreads": Allowed(),
    "query-jobs": Allowed(),
    "query-named-block-nodes": _takes(flat=FLAG),
    "query-status": Allowed(),
    "query-version": Allowed(),
    "quit": Allowed(),
    "x-blockdev-change": _takes(parent=NAME, child=NAME, node=NAME),
    "x-blockdev-reopen": Allowed(BLOCK, BLOCK_REFUSED),
    "x-blockdev-set-iothread": _takes(node_name=NAME, iothread=NAME, force=FLAG),
    "x-debug-query-block-graph": Allowed(),
}
"""Commands of QEMU's: those that the spec models, and a few more that reach nothing.

(query-status, query-blockstats, query-iothreads: they only tell. quit: the daemon is ours to end.
chardev-add: of the kind that is none. blockdev-create: on a node that is there.)
"""
