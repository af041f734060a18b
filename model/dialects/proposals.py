# SPDX-License-Identifier: GPL-2.0-or-later
"""Alternatives that were argued for on the list in January 2019, as changes to 7.2."""

from __future__ import annotations

from model.dialects.qemu_7_2 import QEMU_7_2

OMISSION_KEEPS = QEMU_7_2.derive("omission-keeps", gains=("proposal.omission-keeps",))
NULL_RESETS = OMISSION_KEEPS.derive(
    "null-resets", gains=("proposal.null-resets",), nullable=("blockdev-reopen",)
)
OMITTED_DETACHES = QEMU_7_2.derive(
    "omitted-backing-detaches",
    gains=("proposal.omitted-backing-detaches",),
    loses=("reopen.backing-missing",),
)
FREEZE_COUNTER = QEMU_7_2.derive("freeze-counter", loses=("freeze.frozen",))
