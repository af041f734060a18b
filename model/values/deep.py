# SPDX-License-Identifier: GPL-2.0-or-later
"""Room to follow a graph to its end: a thousand nodes above each other are walked by recursion.

Python stops after a thousand calls within each other, whoever makes them. That is enough for every
ordinary graph, and for a larger one the limit is raised as long as its command is carried out.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDINARY = 40
"""So many levels always fit, wherever the spec is called from."""
_CALLS = 20
"""At most so many calls are made for a level."""
_AROUND = 1000
"""What a caller, and Python itself, may have used up."""


@contextmanager
def room_for(levels: int) -> Iterator[None]:
    """Let calls nest as deeply as ``levels`` of nodes and of the request together may need."""
    before = sys.getrecursionlimit()
    wanted = _AROUND + _CALLS * levels
    if wanted <= before:
        yield
        return
    sys.setrecursionlimit(wanted)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
