# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU 11.1."""

from __future__ import annotations

from model.release.dialects.qemu_10_0 import QEMU_10_0

QEMU_11_1 = QEMU_10_0.derive(
    "qemu-11.1",
    (11, 1),
    gains=(
        "data.zeroes-forgotten",
        "export.threads-empty",
        "export.threads-fixed",
        "file.asks-host",
        "hazard.refused-in-iothread",
        "hazard.sweep-awaited",
        "iothread.poll-weight",
        "length.tells-filters",
        "mirror.knows-zeroes",
        "mirror.punches",
        "nbd.one-thread",
        "query.children",
        "query.limits",
    ),
    # Defects that it has mended.
    loses=("hazard.stays-drained", "qcow2.cleans-again"),
    texts={
        "blkdebug.config": "Could not open '{config}': No such file or directory",
        "object.in-use": "Cannot delete throttle group '{id}' with active references",
    },
)
