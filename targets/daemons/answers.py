# SPDX-License-Identifier: GPL-2.0-or-later
"""What a daemon has answered to each command of a trace, and to the queries that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.values.trace import Json, Observation, name_of
from targets.daemons.own_commands import paused_by
from targets.wire.requests import path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from model.values.trace import Command, Reply

_UNSEEN: tuple[Json, ...] = (None, None)


@attrs.define
class Answers:
    """The answers that have arrived for one command, and how many queries follow it (wanted)."""

    wanted: int
    reply: Reply | None = None
    queries: list[Json] = attrs.Factory(list)
    events: list[dict[str, Json]] = attrs.Factory(list)

    @property
    def complete(self) -> bool:
        """Whether all have arrived."""
        return self.reply is not None and len(self.queries) >= self.wanted


def observations(steps: Iterable[Answers], users: Sequence[str]) -> Iterator[Observation]:
    """An observation for each command that was answered, up to the first that was not.

    ``users`` names what is asked for besides the nodes and the graph. Events count for the step
    during which they arrived. Equal graphs may be one and the same object: they are for reading
    only.
    """
    for step in steps:
        if step.reply is None:
            return
        nodes, graph, *others = (*step.queries, *_UNSEEN[len(step.queries) :])
        observation = Observation(step.reply, nodes, graph, tuple(step.events))
        if others:
            answers = dict(zip(users, others, strict=False))
            observation = attrs.evolve(observation, **answers)
        yield observation


def left_by(
    commands: Sequence[Command], steps: Sequence[Answers]
) -> tuple[str | None, frozenset[str]]:
    """The address of the server that runs after some commands, and the jobs that are paused.

    Both are what the commands have made of them, as far as they were accepted; None: no server.
    """
    server, paused = None, frozenset[str]()
    for command, step in zip(commands, steps, strict=False):
        if step.reply is None or "return" not in step.reply:
            continue
        paused = paused_by(command, paused)
        name = name_of(command)
        if name == "nbd-server-start":
            server = path_of(command)
        elif name == "nbd-server-stop":
            server = None
    return server, paused
