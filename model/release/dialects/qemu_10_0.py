# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 10.0."""

from __future__ import annotations

from model.release.dialects.qemu_7_2 import QEMU_7_2

QEMU_10_0 = QEMU_7_2.derive(
    "qemu-10.0",
    (10, 0),
    gains=(
        "commit.zeroes-as-such",
        "copy-before-write.always-reads",
        "copy-before-write.min-cluster",
        "copy-before-write.min-cluster-large",
        "copy-before-write.min-cluster-power",
        "copy-before-write.notes-on-filter",
        "hazard.appended-to-compress",
        "hazard.copy-on-read-beyond-end",
        "hazard.inserted-in-iothread",
        "hazard.min-cluster-memory",
        "hazard.min-cluster-wraps",
        "hazard.preallocate-closed",
        "hazard.preallocate-rights-lost",
        "hazard.stays-drained",
        "job.sleeps-on",
        "mirror.abort-read-only",
        "mirror.empty-is-equal",
        "mirror.notes-on-filter",
        "preallocate.later",
        "preallocate.read-only-early",
        "preallocate.stuck",
        "qcow2.keeps-place",
        "query.active",
        "query.file-specific",
        "query.job-details",
        "reopen.active-taken",
        "reopen.length-again",
        "resize.says-who",
        "stream.filter-stays",
    ),
    # Defects that it has mended. An iothread has no lock any more.
    loses=(
        "data.unmaps-unasked",
        "hazard.bitmap-lost",
        "hazard.iothread-lock-kept",
        "hazard.mirror-completed-twice",
        "hazard.orphaned-filter",
        "hazard.shared-below",
        "hazard.throttle-moves-locked",
        "hazard.unlocked-iothread",
        "length.always-looks",
        "reopen.last-refuses",
        "resize.busy",
    ),
    texts={
        "options.size-range": "Value '{value}' is out of range for parameter '{key}'",
        "preallocate.drop": "Failed to drop preallocation: Operation not supported",
    },
)
