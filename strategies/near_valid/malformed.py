# SPDX-License-Identifier: GPL-2.0-or-later
"""Invalid commands: requests that the input check refuses, or should.

A right command is taken and one place in it is broken: a member left out, one that
nobody knows, a value of another type, an enum value that does not exist; or the
request itself is none. Numbers never become other numbers here, because that is the
drivers' business and some of them do not survive it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from strategies.choices.weights import ENVELOPE

if TYPE_CHECKING:
    from strategies.choices.chooser import Chooser

_OTHERS: Final[tuple[Any, ...]] = (None, True, "zz", {}, [], {"zz": 1}, ["zz"], 1.5, 2**64)
_NUMBERS: Final[tuple[Any, ...]] = (None, True, "zz", {}, [], 1.5, 2**65, "1")
_UNKNOWN: Final = ("zz", "options", "node_name", "Driver", "", "file")

_ENVELOPES: Final[tuple[dict[str, Any], ...]] = (
    {"execute": "no-such-command"},
    {"execute": "no-such-command", "arguments": {"a": 1}},
    {"execute": None},
    {"execute": 1, "arguments": {}},
    {"execute": "blockdev-del", "arguments": []},
    {"execute": "blockdev-del", "arguments": "zz"},
    {"execute": "blockdev-del", "arguments": {}, "zz": 1},
    {"arguments": {}},
    {},
    {"zz": 1, "execute": "blockdev-del"},
    {"execute": "blockdev-del"},
    {"execute": "query-named-block-nodes", "arguments": {"flat": 1}},
    {"execute": "x-debug-query-block-graph", "arguments": {"zz": True}},
    {"execute": "x-debug-query-block-graph", "arguments": None},
)

Place = tuple[Any, Any]


def malformed(choose: Chooser, command: dict[str, Any]) -> dict[str, Any]:
    """``command`` with one place broken, in place; or another request that is none."""
    arguments = command.get("arguments")
    if choose.chance(ENVELOPE) or not arguments:
        return dict(choose.one_of(_ENVELOPES))
    container, key = choose.one_of(_places(arguments))
    if key is None:
        container[choose.one_of(_UNKNOWN)] = choose.one_of(_OTHERS[:4])
        return command
    value = container[key]
    if isinstance(container, dict) and choose.chance(25):
        del container[key]
    elif isinstance(value, str) and key not in ("filename", "bottom", "path") and choose.chance(25):
        container[key] = value + "zz"
    elif isinstance(value, int) and not isinstance(value, bool):
        container[key] = choose.one_of(_NUMBERS)
    else:
        container[key] = choose.one_of([x for x in _OTHERS if type(x) is not type(value)])
    return command


def _places(arguments: dict[str, Any]) -> list[Place]:
    """Every member and element, and for each dictionary the place of one more (key None)."""
    places: list[Place] = []
    stack: list[Any] = [arguments]
    while stack:
        container = stack.pop()
        if isinstance(container, dict):
            places.append((container, None))
            keys: list[Any] = list(container)
        else:
            keys = list(range(len(container)))
        for key in keys:
            places.append((container, key))
            if isinstance(container[key], (dict, list)):
                stack.append(container[key])
    return places
