# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures: stable names for kinds of failure.

Two traces that fail in the same way get the same signature whatever the names,
numbers and places in them, so one defect is reported, written and reduced once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checker.compare import ABSENT, StepMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.trace import Json, Observation, Trace

_QUOTED_GENERATED = re.compile(r"#block\d+")
_NUMBER = re.compile(r"(?<!\w)-?(?:0x[0-9a-fA-F]+|\d+)(?!\w)")
_INDEX = re.compile(r"\[[^\]]*\]")
# Members of a path that carry their whole meaning in the value, as words of QEMU's own.
_WORDS = re.compile(r"[a-z][a-z0-9-]*")


def names_in(trace: Trace) -> frozenset[str]:
    """The names that a trace gives to nodes, objects and files."""
    found: set[str] = {image.name for image in trace.images}

    def collect(value: Json) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, str):
                    if key.rsplit(".", 1)[-1] in {"node-name", "id", "filename"} and item:
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
    names = names_in(trace)
    command = command_name(trace.commands[mismatch.step])
    path = _INDEX.sub("[]", mismatch.path)
    if mismatch.path in {"reply", "reply.return"} or mismatch.path.startswith("reply.error"):
        path = "reply"
        left, right = _short_answer(expected, names), _short_answer(got, names)
    elif path in {"nodes", "graph.nodes", "graph.edges", "graph.edges(order)"}:
        left = right = ""
    else:
        left, right = _told(mismatch.expected, names), _told(mismatch.got, names)
    told = f" | {left} | {right}" if left or right else ""
    return f"{command} | {path} | {rule}{told}"


def of_death(trace: Trace, step: int, kind: str, cause: str, last_words: str) -> str:
    """The bucket of a daemon's death: command, way, signal or status, last line of stderr."""
    command = command_name(trace.commands[step]) if step < len(trace.commands) else "quit"
    words = normalised(last_words, names_in(trace))
    return f"{command} | {kind} | {cause} | {words}"
