# SPDX-License-Identifier: GPL-2.0-or-later
"""A small world that answers by rule: its model and its daemons, without either."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from checker.diff import Generator, Sides
from checker.judge import Example, Expectation
from model.values.trace import Command, ImageSpec, Observation, Reply, Trace
from targets.deaths import Death
from targets.pool import Finished
from targets.replay import Replay

Answer = Callable[[Command], Reply | Death]
"""What a fake daemon does with a command."""

OK: Reply = {"return": {}}
EMPTY_GRAPH: dict[str, Any] = {"nodes": [], "edges": []}


def refusal(desc: str) -> Reply:
    return {"error": {"class": "GenericError", "desc": desc}}


def model_answer(command: Command) -> Reply:
    """The fake model refuses what is called ``bad`` and accepts the rest."""
    return refusal("it is bad") if command["execute"] == "bad" else OK


def oracle(trace: Trace) -> tuple[Expectation, ...]:
    found = []
    for command in trace.commands:
        reply = model_answer(command)
        bad = "error" in reply
        found.append(
            Expectation(
                Observation(reply, [], EMPTY_GRAPH),
                frozenset() if bad else frozenset({"fake.good"}),
                frozenset({"fake.bad"}) if bad else frozenset(),
            )
        )
    return tuple(found)


def answer(trace: Trace, how: Answer) -> Replay:
    seen: list[Observation] = []
    for number, command in enumerate(trace.commands):
        reply = how(command)
        if isinstance(reply, Death):
            return Replay(
                tuple(seen), Death(reply.kind, number, reply.signal, reply.status, reply.stderr)
            )
        seen.append(Observation(reply, [], EMPTY_GRAPH))
    return Replay(tuple(seen))


class FakePool:
    """Answers a trace late, as a real pool does."""

    def __init__(self, how: Answer) -> None:
        self._how = how
        self._waiting: deque[tuple[Trace, Example]] = deque()

    def submit(self, trace: Trace, token: Example) -> tuple[Finished[Example], ...]:
        self._waiting.append((trace, token))
        if len(self._waiting) > 2:
            return (self._next(),)
        return ()

    def drain(self) -> Iterator[Finished[Example]]:
        while self._waiting:
            yield self._next()

    def _next(self) -> Finished[Example]:
        trace, token = self._waiting.popleft()
        return Finished(token, trace, answer(trace, self._how))


def sides(how: Answer, fresh: Answer | None = None) -> Sides:
    return Sides(
        oracle,
        FakePool(how),
        lambda trace: answer(trace, how),
        lambda trace: answer(trace, fresh or how),
    )


def trace(*names: str) -> Trace:
    images = (ImageSpec("hd0.qcow2", "qcow2", 1024),)
    commands = tuple({"execute": n, "arguments": {"node-name": "n0", "x": 1}} for n in names)
    return Trace(images, commands)


def generator(traces: Iterable[Sequence[str]]) -> Generator:
    def generate(sink: Callable[[Example], None]) -> None:
        for names in traces:
            each = trace(*names)
            sink(Example(each, oracle(each)))

    return generate
