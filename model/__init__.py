# SPDX-License-Identifier: GPL-2.0-or-later
"""The executable spec: what QEMU's block layer does when a node is reopened.

Pure values and functions; importable with nothing but attrs. Only
:meth:`BlockState.to_networkx` loads networkx.
"""

from __future__ import annotations

from model.monitor import Monitor, Outcome, reopen_keeping, step
from model.release.dialect import Dialect, NoSuchDialectError
from model.release.dialects import DIALECTS, PROPOSALS, find_dialect, nearest_dialect
from model.release.rules import Refusal, Rule
from model.values.image_layout import ImageError
from model.values.state import BlockState
from model.values.trace import ImageSpec, Observation, Trace

__all__ = [
    "DIALECTS",
    "PROPOSALS",
    "BlockState",
    "Dialect",
    "ImageError",
    "ImageSpec",
    "Monitor",
    "NoSuchDialectError",
    "Observation",
    "Outcome",
    "Refusal",
    "Rule",
    "Trace",
    "find_dialect",
    "nearest_dialect",
    "reopen_keeping",
    "step",
]
