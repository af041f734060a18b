# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of drivers, as the drivers of the spec and the schemas of the releases have them.

Of the drivers that the spec knows only those count that have values to try for their options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.graph.driver import DRIVERS
from model.release.dialects import DIALECTS
from strategies.choices.option_values import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.drivers import Driver

_NODE: Final = "blockdev-add.arg"


def _which(fits: Callable[[Driver], bool]) -> tuple[str, ...]:
    return tuple(name for name in OPTIONS if fits(DRIVERS[name]))


def _only_child(driver: str) -> str | None:
    """The one option of a driver that has to be a node, or None if there are none or several."""
    schemas = [each.schema for each in DIALECTS.values()]
    schema = next(each for each in schemas if driver in each.values(f"{_NODE}.driver"))
    needed = [
        member.name
        for member in schema.members(_NODE, driver)
        if member.type == "BlockdevRef" and not member.optional
    ]
    return needed[0] if len(needed) == 1 else None


REOPENABLE: Final = _which(lambda driver: driver.can_reopen)
"""Drivers that a reopen may succeed on."""
FILTERS: Final = _which(lambda driver: driver.is_filter and not driver.is_protocol)
"""Filters; blkdebug and blkverify, which are protocols as well, are not among them."""
PROTOCOLS: Final = _which(lambda driver: driver.is_protocol and not driver.is_filter)
"""Drivers of nodes that have no children."""

CHILD: Final = {name: child for name in OPTIONS if (child := _only_child(name)) is not None}
"""The one child that a driver must have, by driver."""

WRAPPERS: Final = _which(lambda driver: driver.is_filter and driver.name in CHILD)
"""Drivers that show their one child unchanged: the filters, and blkdebug."""
