# SPDX-License-Identifier: GPL-2.0-or-later
"""The same trace for another release, which has other commands for the same thing.

Before 6.1 one node was reopened at a time, by ``x-blockdev-reopen`` with flat options. Before 6.0 a
storage daemon had no ``object-add``: what objects there are, it was started with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.values.trace import OBJECT, name_of

if TYPE_CHECKING:
    from model.release.schema import Schema
    from model.values.trace import Command, Trace

_LISTED, _FLAT = "blockdev-reopen", "x-blockdev-reopen"
_ADD = "object-add"
_PLAIN = (int, str)


def spoken(command: Command, schema: Schema) -> Command:
    """A reopen of one node as the release has it: one of a list, or that one by itself.

    Any other command is as it was, and so is a reopen of several nodes.
    """
    name, arguments = name_of(command), command.get("arguments")
    if not isinstance(arguments, dict) or not isinstance(name, str) or schema.knows(name):
        return command
    if name == _LISTED and schema.knows(_FLAT) and arguments.keys() == {"options"}:
        options = arguments["options"]
        if isinstance(options, list) and len(options) == 1 and isinstance(options[0], dict):
            return {**command, "execute": _FLAT, "arguments": options[0]}
    if name == _FLAT and schema.knows(_LISTED):
        return {**command, "execute": _LISTED, "arguments": {"options": [arguments]}}
    return command


def translated(trace: Trace, schema: Schema) -> Trace:
    """A trace in the words of a release: reopens, and objects that it has from the start.

    What a release has no words for stays as it is, and is refused there.
    """
    commands = [spoken(command, schema) for command in trace.commands]
    if not schema.knows(_ADD):
        objects: dict[str, Command] = {}
        rest: list[Command] = []
        for command in commands:
            # A daemon that is to make an object twice does not start.
            if name_of(command) == OBJECT:
                objects.setdefault(str(command["arguments"].get("id")), command)
            elif _is_plain(command):
                made = {"execute": OBJECT, "arguments": command["arguments"]}
                objects.setdefault(command["arguments"]["id"], made)
            else:
                rest.append(command)
        commands = [*objects.values(), *rest]
    return attrs.evolve(trace, commands=tuple(commands))


def _is_plain(command: Command) -> bool:
    """Whether a command makes an object that a daemon can be started with."""
    arguments: Any = command.get("arguments")
    return (
        name_of(command) == _ADD
        and isinstance(arguments, dict)
        and arguments.get("qom-type") in ("iothread", "throttle-group")
        and str(arguments.get("id", "")).isalnum()
        and all(isinstance(value, _PLAIN) for value in arguments.values())
        and arguments.keys() <= {"qom-type", "id", "x-iops-total", "x-bps-total"}
    )
