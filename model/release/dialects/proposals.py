# SPDX-License-Identifier: GPL-2.0-or-later
"""Alternatives that were argued for on the list in January 2019, as changes to the series."""

from __future__ import annotations

from model.release.dialects.series_v1 import SERIES_V1

OMISSION_KEEPS = SERIES_V1.derive("omission-keeps", gains=("proposal.omission-keeps",))
NULL_RESETS = OMISSION_KEEPS.derive(
    "null-resets", gains=("proposal.null-resets",), nullable=("x-blockdev-reopen",)
)
OMITTED_DETACHES = SERIES_V1.derive(
    "omitted-backing-detaches",
    gains=("proposal.omitted-backing-detaches",),
    loses=("reopen.backing-missing",),
)
FREEZE_COUNTER = SERIES_V1.derive("freeze-counter", loses=("freeze.frozen",))
