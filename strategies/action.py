# SPDX-License-Identifier: GPL-2.0-or-later
"""What a row of the table of actions says (:mod:`strategies.actions`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from model.commands.harness import DRIVING
from model.values.trace import Command
from strategies.builders.scene import Scene
from strategies.builders.situation import Condition, always
from strategies.choices.weights import NEAR_VALID

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from strategies.bounded.letters import Letters
    from strategies.near_valid.fault import Fault

Arguments = dict[str, Any]
Build = Callable[[Scene], Command | list[Command]]


@attrs.frozen
class Action:
    """One thing that a trace may do."""

    name: str
    """What it is called: the name of the machine's rule."""
    commands: tuple[str, ...]
    """The commands that it is there for; none if it sends only what other rows are there for.
    A release that has none of them does not have the action."""
    build: Build
    """Makes the command, or several that are sent one after the other, right as far as the state
    tells. The first line of its docstring is what is said of the action."""
    when: Condition = always
    """When it is possible."""
    faults: tuple[Fault, ...] = ()
    """What can be wrong with its commands. Rows that are there for the same command name the same
    faults; they hold for that command wherever else it is built."""
    fault_rate: int = NEAR_VALID
    """Of 100 commands: one thing is wrong with so many, where there are faults."""
    malformable: int = 0
    """How often it is taken, beside the others, when a malformed command is to be made; 0: never.
    """
    copies: bool = False
    """Whether it reads or writes all of a node, which must not be long then."""
    letters: Letters | None = None
    """All of its commands in a small scope, for a search that leaves nothing out."""

    @property
    def about(self) -> str:
        """What it does, in a line."""
        return (self.build.__doc__ or "").partition("\n")[0]

    def is_known(self, dialect: Dialect) -> bool:
        """Whether the release has it."""
        knows = dialect.schema.knows
        return not self.commands or any(each in DRIVING or knows(each) for each in self.commands)


def sends(
    name: str, command: str, arguments: Callable[[Scene], Arguments], when: Condition, **more: Any
) -> Action:
    """An action that sends one command with the arguments that a builder makes."""

    @functools.wraps(arguments)
    def build(scene: Scene) -> Command:
        made = arguments(scene)
        return {"execute": command, "arguments": made} if made else {"execute": command}

    return Action(name, (command,), build, when, **more)
