# SPDX-License-Identifier: GPL-2.0-or-later
"""Where choices come from.

Builders of commands make every choice through a :class:`Chooser`, so the same
builders work inside Hypothesis, where each choice is a draw that the engine sees,
and with a plain seeded generator. Choices are made from sequences, never from sets.
"""

from __future__ import annotations

import abc
from random import Random
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_PERCENT = 100
_SEPARATORS = b"/:"
"""What a trace with shifted windows may not write (docs/containment.md)."""


class Chooser(abc.ABC):
    """Makes choices; the least value of each is the plainest one."""

    __slots__ = ()

    @abc.abstractmethod
    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""

    def byte(self) -> int:
        """A byte for a guest to write: no zero, and none that separates parts of a file name."""
        value = self.integer(1, 255)
        return value + 1 if value in _SEPARATORS else value

    def one_of(self, options: Sequence[T]) -> T:
        """One of ``options``, which must not be empty."""
        last = len(options) - 1
        return options[self.integer(0, last)] if last else options[0]

    def chance(self, percent: int) -> bool:
        """True in ``percent`` of 100 cases."""
        return self.integer(0, _PERCENT - 1) >= _PERCENT - percent

    def some(self, options: Sequence[T], most: int) -> list[T]:
        """Up to ``most`` different ones of ``options``, in their order of choice."""
        left = list(options)
        return [
            left.pop(self.integer(0, len(left) - 1))
            for _ in range(self.integer(0, min(most, len(left))))
        ]


class Draw(Protocol):
    """Hypothesis' draw function."""

    def __call__(self, strategy: st.SearchStrategy[T], /, label: object = None) -> T:
        """A value of the strategy."""


_INTEGERS: dict[tuple[int, int], st.SearchStrategy[int]] = {}


class DrawChooser(Chooser):
    """Every choice is a draw of Hypothesis."""

    __slots__ = ("_draw",)

    def __init__(self, draw: Any) -> None:
        self._draw: Draw = draw

    def integer(self, low: int, high: int) -> int:
        """A drawn number. Strategies are kept: making one costs more than drawing from it."""
        bounds = (low, high)
        strategy = _INTEGERS.get(bounds)
        if strategy is None:
            strategy = _INTEGERS[bounds] = st.integers(low, high)
        return self._draw(strategy)


class RandomChooser(Chooser):
    """Every choice comes from one seeded generator."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random  # noqa: S311  # for tests, not for secrets

    def integer(self, low: int, high: int) -> int:
        """A pseudo-random number."""
        return low + int(self._random() * (high - low + 1))
