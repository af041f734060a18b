# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold: invariants of one state, laws of one step, and that they have their cases."""

from __future__ import annotations

from functools import lru_cache, partial, update_wrapper
from typing import TYPE_CHECKING, TypeAlias

from model import find_dialect
from properties.data_laws import DATA_LAWS
from properties.invariants import INVARIANTS, INVARIANTS_OF_DIALECT
from properties.job_laws import JOB_LAWS, JOB_LAWS_OF_DIALECT
from properties.laws import LAWS, LAWS_OF_DIALECT
from properties.witnesses import WITNESSES, Witness, Witnesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from model.values.trace import Command

    from model import BlockState, Dialect, Outcome

    AnyLaw: TypeAlias = Callable[[BlockState, Command, Outcome], Iterator[tuple[str, str]]]

__all__ = [
    "DATA_LAWS",
    "INVARIANTS",
    "INVARIANTS_OF_DIALECT",
    "JOB_LAWS",
    "JOB_LAWS_OF_DIALECT",
    "LAWS",
    "LAWS_OF_DIALECT",
    "WITNESSES",
    "Witness",
    "Witnesses",
    "law",
    "law_for",
    "told",
]


def told(dialect: Dialect, sentence: Callable[..., str | None]) -> Callable[..., str | None]:
    """An invariant or a law that asks for its dialect, and knows it."""
    return update_wrapper(partial(sentence, dialect=dialect), sentence)


@lru_cache
def law_for(dialect: Dialect) -> AnyLaw:
    """All invariants and laws in one: the broken ones of a step as ``(name, what is wrong)``.

    Nothing is asked of a step that met a hazard: there the release is known to be wrong.
    """
    invariants = [*INVARIANTS, *(told(dialect, each) for each in INVARIANTS_OF_DIALECT)]
    laws = [
        *LAWS,
        *JOB_LAWS,
        *(told(dialect, each) for each in (*LAWS_OF_DIALECT, *JOB_LAWS_OF_DIALECT, *DATA_LAWS)),
    ]

    def law(before: BlockState, command: Command, outcome: Outcome) -> Iterator[tuple[str, str]]:
        if outcome.hazards:
            return
        if outcome.state is not before:
            for invariant in invariants:
                wrong = invariant(outcome.state)
                if wrong is not None:
                    yield invariant.__name__, wrong
                    return  # those that follow rely on those that came before
        for each in laws:
            wrong = each(before, command, outcome)
            if wrong is not None:
                yield each.__name__, wrong

    return law


def law(before: BlockState, command: Command, outcome: Outcome) -> Iterator[tuple[str, str]]:
    """`law_for` release 7.2."""
    return law_for(find_dialect("qemu-7.2"))(before, command, outcome)
