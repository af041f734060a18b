# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures: stable names for kinds of failure.

Two traces that fail in the same way get the same signature whatever the names,
numbers and places in them, so one defect is reported, written and reduced once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checker.compare import ABSENT, StepMismatch
from checker.settling import cause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.values.trace import Json, Observation, Trace

_QUOTED_GENERATED = re.compile(r"#block\d+")
_NUMBER = re.compile(r"(?<!\w)-?(?:0x[0-9a-fA-F]+|\d+)(?!\w)")
_INDEX = re.compile(r"\[[^\]]*\]")
# Members of a path that carry their whole meaning in the value, as words of QEMU's own.
_WORDS = re.compile(r"[a-z][a-z0-9-]*")
# Places where the difference is which names are there, and in which order.
_LISTS = frozenset({"exports", "graph.edges", "graph.edges(order)", "graph.nodes", "jobs", "nodes"})
# Members that give something a name: nodes, objects and jobs, exports, files.
_NAMING = frozenset(
    {
        "export",
        "filename",
        "filter-node-name",
        "id",
        "job-id",
        "name",
        "node-name",
        "path",
        "snapshot-node-name",
    }
)


def names_in(trace: Trace) -> frozenset[str]:
    """The names that a trace gives to nodes, objects, jobs, exports and files."""
    found: set[str] = {image.name for image in trace.images}

    def collect(value: Json) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, str):
                    if key.rsplit(".", 1)[-1] in _NAMING and item:
                        found.add(item)
                else:
                    collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    for command in trace.commands:
        collect(command.get("arguments"))
    return frozenset(found)


def normalised(text: str, names: Iterable[str] = ()) -> str:
    """A text with names and numbers replaced: ``Node 'hd0' has 3`` -> ``Node '*' has N``."""
    text = _QUOTED_GENERATED.sub("*", text)
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "*", text)
    return _NUMBER.sub("N", text)


def command_name(command: dict[str, Json]) -> str:
    """What a command executes, or ``?`` if it says nothing sensible."""
    name = command.get("execute")
    return name if isinstance(name, str) else "?"


def told_command(trace: Trace, step: int) -> str:
    """What a step executes; of one that waits, what set going that which is waited for."""
    commands = trace.commands
    if step >= len(commands):
        return "quit"
    origin = cause(commands, step)
    name = command_name(commands[origin])
    return name if origin == step else f"{name}, waiting"


def _told(value: object, names: frozenset[str]) -> str:
    """A value as it may stand in a signature: coarse, so that equal kinds fall together."""
    if value is ABSENT or isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        return "N"
    if isinstance(value, str):
        return normalised(value, names)
    if isinstance(value, (list, tuple)) and all(
        isinstance(item, str) and _WORDS.fullmatch(item) for item in value
    ):
        return ",".join(sorted(set(map(str, value)) - names)) or "none"
    return "..."


def _short_answer(observation: Observation, names: frozenset[str]) -> str:
    error = observation.reply.get("error")
    if isinstance(error, dict):
        return f"{error.get('class')}: {normalised(str(error.get('desc')), names)}"
    return "success"


def of_divergence(
    trace: Trace,
    mismatch: StepMismatch,
    rule: str,
    expected: Observation,
    got: Observation,
) -> str:
    """The bucket of a difference: command, place, the rule that decided, and both sides."""
    path, left, right = _sides(trace, mismatch, expected, got)
    told = f" | {left} | {right}" if left or right else ""
    return f"{told_command(trace, mismatch.step)} | {path} | {rule}{told}"


def of_wobble(trace: Trace, mismatch: StepMismatch, first: Observation, second: Observation) -> str:
    """The bucket of what a target does differently the second time, in whichever order."""
    path, left, right = _sides(trace, mismatch, first, second)
    told = "".join(f" | {side}" for side in sorted((left, right)) if side)
    return f"{told_command(trace, mismatch.step)} | {path} | repeated{told}"


def _sides(
    trace: Trace, mismatch: StepMismatch, expected: Observation, got: Observation
) -> tuple[str, str, str]:
    """The place of a difference and what both sides have there, told coarsely."""
    names = names_in(trace)
    path = _INDEX.sub("[]", mismatch.path)
    if mismatch.path in {"reply", "reply.return"} or mismatch.path.startswith("reply.error"):
        return "reply", _short_answer(expected, names), _short_answer(got, names)
    if path in _LISTS:
        return path, "", ""
    return path, _told(mismatch.expected, names), _told(mismatch.got, names)


def of_death(trace: Trace, step: int, kind: str, cause: str, last_words: str) -> str:
    """The bucket of a daemon's death: command, way, signal or status, last line of stderr."""
    command = told_command(trace, step)
    words = normalised(last_words, names_in(trace))
    return f"{command} | {kind} | {cause} | {words}"
