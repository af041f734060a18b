# SPDX-License-Identifier: GPL-2.0-or-later
"""The null drivers: null-co and null-aio, which hold no bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.graph.driver import Driver, FlatOptions, Opener, absorb, sectors
from model.release.rules import guard, hazard, outside
from model.release.scope import Outside

if TYPE_CHECKING:
    from model.values.state import Node

LATENCY = guard(
    "null.latency",
    "A latency fits a signed number of nanoseconds.",
    source="7.2",
    text="latency-ns is invalid",
)


SLOW = outside(
    "null.slow",
    "A null driver answers nearly at once.",
    text="a node that takes {latency} ns for a request is not modelled",
)


NULL_NAME = guard(
    "null.filename",
    "The only file name of a null driver is its own name.",
    source="7.2: a backing file name meets an inline null driver",
    text="The only allowed filename for this driver is '{driver}://'",
)


ABORTS_ON_SIZE = hazard(
    "hazard.null-size",
    "A null node is given a negative size.",
    source="7.2 ends with an unexpected error in parse_option_size",
)


_SHORT = 1_000_000


class Null(Driver):
    """A node that reads as nothing and forgets what is written."""

    is_protocol = True
    can_reopen = True
    makes_filename = True
    strong = ("size", "read-zeroes")
    outside = {
        "latency-ns": Outside(
            "how long requests take", when=f"they would take more than {_SHORT} ns each"
        )
    }
    kinds = {
        "size": "size",
        "latency-ns": "number",
        "read-zeroes": "bool",
    }

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, opener: Opener, name: str, options: FlatOptions) -> None:
        """One GiB unless said otherwise."""
        ev = opener.t.ev
        if options.get("size", 0) < 0:
            ev.meet(ABORTS_ON_SIZE)
        own = absorb(ev, options, self.kinds)
        latency = own.get("latency-ns", 0)
        ev.check(LATENCY, 0 <= latency < 1 << 63)
        if latency > _SHORT:
            ev.leave(SLOW, f"blockdev-add/{self.name}.latency-ns", latency=latency)
        size = own.get("size", 1 << 30)
        # What does not fit 63 bits, as 5.2 may read a number below that, is negative: no length.
        opener.t.change(name, size=sectors(size) if size < 1 << 63 else 0)

    def parse_filename(self, opener: Opener, filename: str, options: FlatOptions) -> None:
        """No other name is allowed."""
        opener.t.ev.check(NULL_NAME, filename == f"{self.name}://", driver=self.name)

    def exact_filename(self, node: Node, full: dict[str, Any], child_names: dict[str, str]) -> str:
        """``null-co://``, unless a strong option is set."""
        if set(full) <= {"filename", "driver", "latency-ns"}:
            return f"{self.name}://"
        return ""
