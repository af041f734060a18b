# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated commands on the model: a reply each, and a refused one changes nothing.

    python -m tests.fuzz.monitor [--inputs N] [--seed S]    N on every dialect and proposal

The commands are those of real traces, spoiled on their way; a trace goes on from what a spoiled
command left behind now and then, else as if there had been none.
"""

from __future__ import annotations

import json
import sys
from random import Random
from typing import TYPE_CHECKING, Any

from model import Monitor, step
from model.release.dialects import DIALECTS, PROPOSALS
from model.values.image_layout import ImageError
from properties.laws import refused_commands_change_nothing
from tests.fuzz.material import traces
from tests.fuzz.mutations import Mutator
from tests.fuzz.watching import Faults, main

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model import BlockState, Outcome
    from model.release.dialect import Dialect
    from model.values.trace import Command, Trace

EVERY = {**DIALECTS, **PROPOSALS}
PER_COMMAND = 4
"""Spoiled commands that are tried at each place of a trace."""
STAYS = 0.2
"""How often a trace goes on from what a spoiled command has led to."""


def fuzz(dialect: Dialect, inputs: int, seed: int, faults: Faults) -> None:
    """Try so many spoiled commands on a dialect."""
    random = Random(f"{dialect.name} {seed}")
    sound = traces(dialect)
    mutator = Mutator(random, [command for trace in sound for command in trace.commands])
    end = faults.inputs + inputs
    while faults.inputs < end:
        _along(random.choice(sound), dialect, mutator, random, faults, end)


def _along(
    trace: Trace,
    dialect: Dialect,
    mutator: Mutator,
    random: Random,
    faults: Faults,
    end: int,
) -> None:
    monitor = Monitor(dialect)
    with faults.watch(trace.images, ImageError):
        for image in trace.images:
            monitor.images.from_spec(image)
    state = monitor.state
    for command in trace.commands:
        for _ in range(PER_COMMAND):
            if faults.inputs >= end:
                return
            outcome = attempt(state, mutator.command(command), dialect, faults)
            if outcome is not None and random.random() < STAYS:
                state = outcome.state
        with faults.watch(command):
            state = step(state, command, dialect).state


def attempt(
    state: BlockState, command: Command, dialect: Dialect, faults: Faults
) -> Outcome | None:
    """Carry out a command and count what is wrong about its outcome."""
    faults.inputs += 1
    outcome = None
    with faults.watch(command):
        outcome = step(state, command, dialect)
        faults.accepted += outcome.ok
        for wrong in complaints(state, command, outcome, dialect):
            faults.add(wrong, command)
    return outcome


def complaints(
    state: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> Sequence[str]:
    """What is wrong about an outcome; may raise where looking at it does."""
    found = []
    if not well_formed(outcome.reply):
        found.append(f"no well-formed reply to {name_of(command)}")
    json.dumps(outcome.reply)
    json.dumps(outcome.events)
    if outcome.state is not state:
        before, after = _shown(state, dialect), _shown(outcome.state, dialect)
        # What a driver remembers may be another after a refusal, if no client sees it.
        if not outcome.hazards and isinstance(command, dict) and before != after:
            wrong = refused_commands_change_nothing(state, command, outcome, dialect)
            if wrong is not None:
                found.append(f"{name_of(command)}: {wrong}")
    return found


def _shown(state: BlockState, dialect: Dialect) -> list[str]:
    """What queries show of the nodes, in no order, which a refusal may change; and the rest."""
    monitor = Monitor(dialect)
    monitor.state = state
    seen = monitor.observe()
    graph = seen.graph or {}
    shown = [*(seen.nodes or []), *graph.get("nodes", []), *graph.get("edges", [])]
    rest = (state.jobs, state.exports, state.nbd_server, state.objects, state.devices)
    return [*sorted(json.dumps(each, sort_keys=True) for each in shown), *map(repr, rest)]


def well_formed(reply: Any) -> bool:
    """Whether a reply is what QMP allows: a value, or an error with its class and text."""
    if not isinstance(reply, dict) or not reply.keys() <= {"return", "error", "id"}:
        return False
    if ("return" in reply) == ("error" in reply):
        return False
    if "return" in reply:
        return True
    error = reply["error"]
    return (
        isinstance(error, dict)
        and error.keys() == {"class", "desc"}
        and all(isinstance(value, str) for value in error.values())
    )


def name_of(command: Any) -> str:
    """The name of a command, if it has one."""
    name = command.get("execute") if isinstance(command, dict) else None
    return name if isinstance(name, str) and len(name) < 50 else "no command"


def fuzz_all(inputs: int, seed: int) -> Faults:
    """Try so many on each dialect."""
    faults = Faults()
    for dialect in EVERY.values():
        faults.about = dialect.name
        fuzz(dialect, inputs, seed, faults)
    return faults


if __name__ == "__main__":
    sys.exit(main(__doc__, fuzz_all))
