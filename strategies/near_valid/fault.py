# SPDX-License-Identifier: GPL-2.0-or-later
"""What a fault is: one thing made wrong in a command, which the schema cannot see.

A fault takes the arguments of a command that its builder holds to be right (or the options of a
node), changes one thing in place and says whether it could. Faults that are listed several times
are tried so many times as often.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from strategies.builders.scene import Scene

Options = dict[str, Any]
Arguments = dict[str, Any]
Fault = Callable[[Scene, Arguments], bool]


def make_wrong(scene: Scene, faults: Sequence[Fault], arguments: Arguments) -> None:
    """Make one thing wrong: faults are tried from a drawn start until one applies.

    Where none does, the arguments stay as they are.
    """
    if faults:
        start = scene.choose.integer(0, len(faults) - 1)
        any(each(scene, arguments) for each in (*faults[start:], *faults[:start]))


def said(fault: Fault) -> str:
    """What is wrong, in a line for each way there is."""
    return inspect.cleandoc(fault.__doc__ or "")


def unknown_name(*keys: str) -> Fault:
    """The value of one of ``keys`` becomes a name that nothing has."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        arguments[scene.choose.one_of(keys)] = "missing"
        return True

    apply.__doc__ = f"A name that nothing has: {' or '.join(keys)}."
    return apply


def any_node(*keys: str) -> Fault:
    """The value of one of ``keys`` becomes any node, used or not, of any driver."""

    def apply(scene: Scene, arguments: Arguments) -> bool:
        names = scene.names()
        if not names:
            return False
        arguments[scene.choose.one_of(keys)] = scene.choose.one_of(names)
        return True

    apply.__doc__ = f"Any node, used or not, of any driver: {' or '.join(keys)}."
    return apply
