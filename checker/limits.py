# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a case may hold; ``docs/limits.md`` states the same numbers, with what they are for.

Cases come from strangers, and what is accepted is replayed in reasonable time. What any run of
ours writes fits several times over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checker.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.trace import Json

MOST_BYTES = 64 * 1024 * 1024
"""Of a case's file."""
MOST_DEPTH = 100
"""Objects and lists within each other, in the whole document."""
MOST_STEPS = 2000
"""Commands."""
MOST_IMAGES = 200
"""Image files."""
MOST_RUNS = 1000
"""Runs of data that are written beforehand to all images together."""
MOST_NODES = 600
"""Nodes that are described in all of ``blockdev-add``."""
MOST_VALUES = 50_000
"""Values in all commands: members, items, and what they hold."""
MOST_TEXT = 65_536
"""Characters of a text in a command."""
MOST_DIGITS = 4300
"""Of a whole number."""


def check_document(head: dict[str, Json]) -> None:
    """See that a document is not too much to be a case, whatever its shape is.

    Raises :class:`CaseError` in one line that names the place.
    """
    _check_depth(head)
    _check_count(head.get("steps"), MOST_STEPS, "steps")
    images = head.get("images")
    _check_count(images, MOST_IMAGES, "images")
    runs = 0
    for image in images if isinstance(images, list) else ():
        data = image.get("data") if isinstance(image, dict) else None
        runs += len(data) if isinstance(data, list) else 0
    if runs > MOST_RUNS:
        raise CaseError(f"its images have {runs} runs of data; the most is {MOST_RUNS}")
    _check_commands(head.get("steps"))


def _check_count(value: Json, most: int, what: str) -> None:
    if isinstance(value, list) and len(value) > most:
        raise CaseError(f"it has {len(value)} {what}; the most is {most}")


def _check_depth(head: dict[str, Json]) -> None:
    layer: list[Json] = [head]
    for _ in range(MOST_DEPTH):
        layer = [
            item
            for value in layer
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, (dict, list))
        ]
        if not layer:
            return
    raise CaseError(f"it is nested more than {MOST_DEPTH} deep")


def _check_commands(steps: Json) -> None:
    values = nodes = 0
    for number, step in enumerate(steps if isinstance(steps, list) else (), 1):
        command = step.get("command") if isinstance(step, dict) else None
        adds = isinstance(command, dict) and command.get("execute") == "blockdev-add"
        for key, value in _inside(command):
            values += 1
            nodes += adds and key.rpartition(".")[2] == "driver"
            for text in (key, value):
                if isinstance(text, str) and len(text) > MOST_TEXT:
                    raise CaseError(
                        f"step {number} has a text of {len(text)} characters;"
                        f" the most is {MOST_TEXT}"
                    )
        if values > MOST_VALUES:
            raise CaseError(f"its commands hold more than {MOST_VALUES} values")
        if nodes > MOST_NODES:
            raise CaseError(f"its commands describe more than {MOST_NODES} nodes")


def _inside(value: Json) -> Iterator[tuple[str, Json]]:
    """Everything in a value, each with the name of its member, empty for an item of a list."""
    left: list[tuple[str, Json]] = [("", value)]
    while left:
        name, each = left.pop()
        yield name, each
        if isinstance(each, dict):
            left += each.items()
        elif isinstance(each, list):
            left += (("", item) for item in each)
