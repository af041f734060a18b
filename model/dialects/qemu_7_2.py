# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 7.2, from which most rules were written down. It lacks what came later or never came."""

from __future__ import annotations

from model.dialect import Dialect

DEVICES = frozenset(
    {
        "device.id",
        "device.id-taken",
        "device.joins-controller",
        "device.leaves-controller",
        "device.looks",
        "device.keeps-iothread",
        "device.no-bus",
        "device.no-drive",
        "device.no-driver",
        "device.no-iothread",
        "device.no-property",
        "device.unknown",
        "device.unknown-bus",
        "device.unknown-driver",
        "device.unknown-iothread",
        "device.unknown-node",
        "device.unnamed",
        "device.unplugging",
        "device.waits",
        "device.wrong-bus",
        "hazard.looks-at-drained",
    }
)
"""What a storage daemon has no use for: it has no machine."""

QEMU_7_2 = Dialect(
    "qemu-7.2",
    "qemu-7.2",
    (7, 2),
    absent=DEVICES
    | frozenset(
        {
            "commit.zeroes-as-such",
            "copy-before-write.always-reads",
            "copy-before-write.notes-on-filter",
            "chain.loses-backing",
            "context.moves-locked",
            "export.stays-and-tells",
            "file.copies-locks",
            "file.first-access",
            "file.takes-devices",
            "guest.waits-for-drain",
            "hazard.appended-to-compress",
            "hazard.copies-beyond-end",
            "hazard.copies-without-right",
            "hazard.copy-on-read-beyond-end",
            "hazard.cycle-unnoticed",
            "hazard.descriptor-closed",
            "hazard.empty-backup",
            "hazard.export-tells-twice",
            "hazard.filter-outlives-mirror",
            "hazard.inserted-in-iothread",
            "hazard.loosening-tightens",
            "hazard.not-frozen",
            "hazard.ready-twice",
            "hazard.stays-drained",
            "hazard.stream-conflict",
            "hazard.unaligned",
            "hazard.unshares-unchanged",
            "job.own-backend",
            "job.sleeps-on",
            "mirror.abort-read-only",
            "mirror.notes-on-filter",
            "mirror.tries-again",
            "permissions.from-each-node",
            "permissions.gets-writer",
            "permissions.graph-mod",
            "permissions.not-allowed",
            "permissions.used",
            "proposal.null-resets",
            "proposal.omission-keeps",
            "proposal.omitted-backing-detaches",
            "query.active",
            "query.bitmap-status",
            "query.encryption-key-missing",
            "query.file-specific",
            "query.job-details",
            "reopen.copies-on-read",
            "reopen.length-again",
            "resize.file-limit",
            "resize.says-who",
            "stream.filter-stays",
        }
    ),
)
