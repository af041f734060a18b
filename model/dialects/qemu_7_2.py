# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 7.2, from which most rules were written down. It lacks what came later or never came."""

from __future__ import annotations

from model.dialect import Dialect

QEMU_7_2 = Dialect(
    "qemu-7.2",
    "qemu-7.2",
    (7, 2),
    absent=frozenset(
        {
            "commit.zeroes-as-such",
            "copy-before-write.always-reads",
            "copy-before-write.notes-on-filter",
            "export.threads-empty",
            "export.threads-fixed",
            "file.asks-host",
            "hazard.appended-to-compress",
            "hazard.copy-on-read-beyond-end",
            "hazard.exports-stopped",
            "hazard.inserted-in-iothread",
            "hazard.stays-drained",
            "job.sleeps-on",
            "length.tells-filters",
            "mirror.abort-read-only",
            "mirror.knows-zeroes",
            "mirror.notes-on-filter",
            "mirror.punches",
            "nbd.one-thread",
            "proposal.null-resets",
            "proposal.omission-keeps",
            "proposal.omitted-backing-detaches",
            "query.active",
            "query.children",
            "query.file-specific",
            "query.job-details",
            "query.limits",
            "reopen.length-again",
            "resize.says-who",
            "stream.filter-stays",
        }
    ),
)
