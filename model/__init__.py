# SPDX-License-Identifier: GPL-2.0-or-later
"""The executable spec: what QEMU's block layer does when a node is reopened.

Pure values and functions; importable with nothing but attrs. Only
:meth:`BlockState.to_networkx` loads networkx.
"""

from __future__ import annotations

from model.disks.image_commands import Comparison
from model.disks.image_files import Images
from model.monitor import ClosedError, Monitor, Outcome, reopen_keeping, step
from model.release.dialect import Dialect, NoSuchDialectError
from model.release.dialects import DIALECTS, PROPOSALS, find_dialect, nearest_dialect
from model.release.rules import NOT_MODELLED, Refusal, Rule, all_rules
from model.values.image_layout import ImageError
from model.values.state import BlockState, Image
from model.values.trace import Command, ImageSpec, Observation, Reply, Trace

__all__ = [
    "DIALECTS",
    "NOT_MODELLED",
    "PROPOSALS",
    "BlockState",
    "ClosedError",
    "Command",
    "Comparison",
    "Dialect",
    "Image",
    "ImageError",
    "ImageSpec",
    "Images",
    "Monitor",
    "NoSuchDialectError",
    "Observation",
    "Outcome",
    "Refusal",
    "Reply",
    "Rule",
    "Trace",
    "all_rules",
    "find_dialect",
    "nearest_dialect",
    "reopen_keeping",
    "step",
]
