# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of the actions that traces are made of, in Markdown: docs/commands.md.

``python -m strategies.listing`` prints it.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

from strategies.actions import ACTIONS, FAULTS, NOT_BUILT
from strategies.near_valid.fault import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from strategies.action import Action
    from strategies.near_valid.fault import Fault

_HEAD = """\
# What traces are made of

Made by `.venv/bin/python -m strategies.listing > docs/commands.md` from the table in
`strategies/actions.py`; a test compares the two.

An **action** is a rule of the machine: Hypothesis chooses one for each step, from those that are
possible. A release that has none of an action's commands does not have the action. *Malformed* are
commands that the input check is to refuse.
"""
_FAULTS = """
## What can be wrong

About a third of the commands have exactly one of these faults, which only the block layer can tell.
"""
_ALPHABET = """
## The finite alphabet

`reopencheck compare --exhaustive` tries all of these in each state ([compare.md](compare.md)).
"""
_REST = """
## Not generated

These commands of the spec are no action.
"""


def page() -> str:
    """The whole page."""
    return "".join(
        (
            _HEAD,
            _table(("action", "command", "what it does", "possible when", "malformed"),
                   map(_action, ACTIONS.values())),
            _FAULTS,
            _table(("command", "faults"), _faults()),
            _ALPHABET,
            _table(("command", "which"), _letters()),
            _REST,
            _table(("command", "why"), ((f"`{name}`", why) for name, why in NOT_BUILT.items())),
        )
    )  # fmt: skip


def _action(action: Action) -> tuple[str, ...]:
    commands = ", ".join(f"`{command}`" for command in action.commands)
    return (
        f"`{action.name}`",
        commands or "those of other actions",
        action.about,
        _said(action.when),
        "yes" if action.malformable else "",
    )


def _faults() -> Iterator[tuple[str, ...]]:
    commands: dict[tuple[Fault, ...], list[str]] = {}
    for command, faults in FAULTS.items():
        commands.setdefault(faults, []).append(f"`{command}`")
    for faults, names in commands.items():
        each = dict.fromkeys(line for fault in faults for line in said(fault).splitlines())
        yield ", ".join(names), "<br>".join(each)


def _letters() -> Iterator[tuple[str, ...]]:
    for action in ACTIONS.values():
        if action.letters is not None:
            yield f"`{action.commands[0]}`", _said(action.letters)


def _said(of: Callable[..., object]) -> str:
    """A docstring in one line."""
    return " ".join((inspect.getdoc(of) or "").split())


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.stdout.write(page())
