# SPDX-License-Identifier: GPL-2.0-or-later
"""A finite alphabet of commands over a few equal images, for search that leaves nothing out.

The table of actions says which commands are in it (:mod:`strategies.actions`); how they are spelled
stands in :mod:`strategies.bounded.letters`. ``docs/commands.md`` lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.values.trace import ImageSpec
from strategies.actions import ACTIONS
from strategies.bounded.letters import Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.schema import Schema
    from model.values.state import BlockState
    from model.values.trace import Command

_SIZE = 131072
_DATA = 65536


def images(count: int) -> tuple[ImageSpec, ...]:
    """The images of a scope: all of one kind, with some data each."""
    return tuple(
        ImageSpec(f"hd{i}.qcow2", "qcow2", _SIZE, data=((0, _DATA, i + 1),)) for i in range(count)
    )


def names_streams(schema: Schema) -> bool:
    """Whether a stream can be told how to name its filter; before 6.0 it has none."""
    members = schema.members(schema.commands["block-stream"])
    return any(member.name == "filter-node-name" for member in members)


def letters(
    state: BlockState, start: BlockState, count: int, *, named: bool = True
) -> Iterator[Command]:
    """The commands that are tried in a state of a scope of ``count`` images.

    The scope began with the state ``start``. Commands name what is there, and the filters of
    streams if those can be ``named``.
    """
    position = Position(state, start, count, named)
    for action in ACTIONS.values():
        if action.letters is not None:
            yield from action.letters(position)
