# SPDX-License-Identifier: GPL-2.0-or-later
"""Traces have jobs in them, in every state, and keep to what makes jobs predictable."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import pytest

from model import BlockState, Monitor, Outcome, Trace, find_dialect
from model.values.trace import READ, WAIT, waits
from model.release.dialects.qemu_7_2 import QEMU_7_2
from strategies import job_corners, jobs, machine_for, run, thread_corners
from strategies.choosing import RandomChooser
from strategies.images import LAYOUTS, choose_images
from strategies.scene import Scene

if TYPE_CHECKING:
    from model.values.trace import Command

pytestmark = pytest.mark.slow

DIALECT = find_dialect("qemu-7.2")
CLUSTER = 65536
THROTTLED = ("commit", "stream")
STARTS = ("block-commit", "block-stream", "blockdev-backup", "blockdev-mirror")


@attrs.define
class Example:
    trace: Trace
    steps: list[tuple[BlockState, Command, Outcome]]

    def has(self, name: str) -> bool:
        return any(command.get("execute") == name for command in self.trace.commands)


@lru_cache
def examples() -> tuple[Example, ...]:
    seen: list[Example] = []
    steps: list[tuple[BlockState, Command, Outcome]] = []

    def on_step(before: BlockState, command: Command, outcome: Outcome) -> None:
        steps.append((before, command, outcome))

    def on_trace(trace: Trace, _outcomes: tuple[Outcome, ...]) -> None:
        seen.append(Example(trace, list(steps)))
        steps.clear()

    run(machine_for(DIALECT, on_step, on_trace), examples=150, steps=40, seed_number=11)
    return tuple(seen)


def test_what_a_command_sets_going_is_waited_for_at_once() -> None:
    for example in examples():
        for number, (_, _, outcome) in enumerate(example.steps):
            if outcome.hazards:
                break
            wanted = waits(dict(outcome.settling))
            following = example.trace.commands[number + 1 : number + 1 + len(wanted)]
            assert list(following) == wanted


def test_a_job_that_sleeps_is_paused_next() -> None:
    paused = 0
    for example in examples():
        commands = example.trace.commands
        for number, (_, command, outcome) in enumerate(example.steps):
            asleep = command.get("execute") == WAIT and "progress" in command["arguments"]
            job = outcome.state.jobs.get(command["arguments"]["id"]) if asleep else None
            if job is None or job.status != "running":
                continue
            rest = [c for c in commands[number + 1 :] if c.get("execute") != WAIT]
            assert rest[0] == {"execute": "job-pause", "arguments": {"id": job.id}}
            paused += 1
    assert paused


def test_only_commits_and_streams_are_throttled() -> None:
    for example in examples():
        for _, _, outcome in example.steps:
            for job in outcome.state.jobs.values():
                assert job.type in THROTTLED or not 0 < job.speed < CLUSTER


def test_in_a_third_of_the_traces_a_job_lives_during_a_reopen() -> None:
    alive = [
        any(
            command.get("execute") == "blockdev-reopen"
            and any(job.status != "concluded" for job in before.jobs.values())
            for before, command, _ in example.steps
        )
        for example in examples()
    ]
    assert sum(alive) >= 0.3 * len(alive)


def test_in_half_of_the_traces_a_guest_reads() -> None:
    reads = [example.has(READ) for example in examples()]
    assert sum(reads) >= 0.5 * len(reads)


def test_every_resting_state_and_every_job_comes_up() -> None:
    states = set()
    started = set()
    for example in examples():
        for _, command, outcome in example.steps:
            states |= {job.status for job in outcome.state.jobs.values()}
            if outcome.ok and command.get("execute") in STARTS:
                started.add(command["execute"])
    assert states == {"running", "paused", "ready", "standby", "pending", "concluded"}
    assert started == set(STARTS)


def test_nothing_follows_a_hazard() -> None:
    for example in examples():
        met = [bool(outcome.hazards) for _, _, outcome in example.steps]
        assert not any(met[:-1])


def test_most_images_hold_something_and_all_of_it_fits() -> None:
    filled = total = 0
    for seed in range(200):
        for image in choose_images(RandomChooser(seed)):
            total += 1
            filled += bool(image.data)
            for offset, length, pattern in image.data:
                assert 0 <= offset < offset + length <= image.size
                assert offset % 512 == length % 512 == 0
                assert 0 <= pattern < 256
    assert 0.6 * total < filled < 0.9 * total
    assert len({len(layout) for layout in LAYOUTS}) > 2


@pytest.mark.parametrize("name", jobs.VERBS)
def test_a_verb_is_told_to_a_job_that_takes_it(name: str) -> None:
    told = right = 0
    for example in examples():
        for _, _, outcome in example.steps:
            fit = [j.id for j in outcome.state.jobs.values() if name in jobs.TAKES[j.status]]
            if not fit:
                continue
            told += 1
            command = jobs.verb(name)(Scene(outcome.state, RandomChooser(told), QEMU_7_2))
            arguments = command["arguments"]
            right += arguments.get("id", arguments.get("device")) in fit
    assert told
    assert right == told


def test_every_corner_leads_somewhere() -> None:
    """From some state each corner has a next command, and the spec answers it."""
    states = [outcome.state for example in examples() for _, _, outcome in example.steps[::7]]
    corners = (
        *job_corners.CHAIN_CORNERS,
        *job_corners.MIRROR_CORNERS,
        *job_corners.FILTER_CORNERS,
        *thread_corners.THREAD_CORNERS,
    )
    for corner in dict.fromkeys(corners):
        found = 0
        for number, state in enumerate(states):
            command = corner(Scene(state, RandomChooser(number), QEMU_7_2))
            if command is not None:
                monitor = Monitor(DIALECT)
                monitor.state = state
                monitor.execute(command)
                found += 1
        assert found, corner.__name__
