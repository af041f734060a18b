# SPDX-License-Identifier: GPL-2.0-or-later
"""Copying from node to node, as jobs do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data import requests

if TYPE_CHECKING:
    from model.graph.transition import Transition

CHUNK = 512 << 10
"""How many bytes of a chain a job looks at, and copies, at most at once."""


def copy(t: Transition, source: str, target: str, start: int, end: int) -> None:
    """Copy a range from one node to another in one request.

    Raises :class:`ImageError` where that is no bytes of a guest's.
    """
    requests.put(t, target, start, end, requests.get(t, source, start, end))
