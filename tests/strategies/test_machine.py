# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine keeps its word: a seed gives the same, right and wrong in their shares."""

from __future__ import annotations

import collections
import json
from functools import lru_cache
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import settings

from model import BlockState, Monitor, Outcome, Trace, find_dialect, step
from model.values.trace import WAIT
from strategies import Enough, machine_for, run
from strategies.actions import ACTIONS
from strategies.choices.images import MOST_IMAGES
from strategies.choices.option_values import OPTIONS

if TYPE_CHECKING:
    from model.values.trace import Command

pytestmark = pytest.mark.slow

DIALECT = find_dialect("qemu-7.2")
EXAMPLES = 150


@attrs.define
class Run:
    traces: list[tuple[Trace, tuple[Outcome, ...]]] = attrs.Factory(list)
    steps: list[tuple[BlockState, Command, Outcome]] = attrs.Factory(list)

    def __call__(self, trace: Trace, outcomes: tuple[Outcome, ...]) -> None:
        self.traces.append((trace, outcomes))

    def on_step(self, before: BlockState, command: Command, outcome: Outcome) -> None:
        self.steps.append((before, command, outcome))


@lru_cache
def generated(seed: int, examples: int = EXAMPLES) -> Run:
    seen = Run()
    run(machine_for(DIALECT, seen.on_step, seen), examples=examples, steps=30, seed_number=seed)
    return seen


def test_the_same_seed_gives_the_same_traces() -> None:
    first = [trace for trace, _ in generated(1, 40).traces]
    generated.cache_clear()
    assert [trace for trace, _ in generated(1, 40).traces] == first
    assert [trace for trace, _ in generated(2, 40).traces] != first


def test_between_35_and_75_percent_of_the_commands_are_accepted() -> None:
    outcomes = [outcome for _, outcomes in generated(4).traces for outcome in outcomes]
    share = sum(outcome.ok for outcome in outcomes) / len(outcomes)
    assert 0.35 <= share <= 0.75


def test_few_commands_have_been_there_before() -> None:
    commands = [json.dumps(command, sort_keys=True) for _, command, _ in generated(4).steps]
    assert len(set(commands)) > 0.4 * len(commands)


def test_reopens_are_accepted_and_refused() -> None:
    outcomes = [o for _, c, o in generated(4).steps if c.get("execute") == "blockdev-reopen"]
    share = sum(outcome.ok for outcome in outcomes) / len(outcomes)
    assert 0.35 <= share <= 0.75


def test_every_command_and_driver_comes_up() -> None:
    steps = [step for seed in (3, 4, 5) for step in generated(seed).steps]
    done = collections.Counter(
        str(command["execute"]) for _, command, outcome in steps if outcome.ok
    )
    built = {command for action in ACTIONS.values() for command in action.commands}
    disks = {"query-block"}
    assert done.keys() >= {command for command in built - disks if DIALECT.schema.knows(command)}
    assert not {"device_add", "device_del"} & done.keys()
    drivers = {node.driver for _, _, outcome in steps for node in outcome.state.nodes.values()}
    assert drivers == {*OPTIONS, "commit_top", "mirror_top", "copy-before-write"}


def test_an_emulator_has_disks_of_each_kind() -> None:
    seen = Run()
    dialect = find_dialect("qemu-system-7.2")
    run(machine_for(dialect, seen.on_step, seen), examples=60, steps=30, seed_number=3)
    done = collections.Counter(
        (str(command["execute"]), command["arguments"].get("driver"))
        for _, command, outcome in seen.steps
        if outcome.ok and str(command.get("execute")).startswith("device_")
    )
    added = {driver for name, driver in done if name == "device_add"}
    aliases = {"virtio-scsi", "virtio-blk"}
    assert added == {"virtio-scsi-pci", "scsi-hd", "virtio-blk-pci", *aliases}
    assert not any(outcome.unmodelled for _, _, outcome in seen.steps)
    shown = [outcome.reply for _, c, outcome in seen.steps if c.get("execute") == "query-block"]
    assert max(len(reply["return"]) for reply in shown if "return" in reply) > 1
    assert ("device_del", None) in done
    waits = [c["arguments"]["id"] for _, c, _ in seen.steps if c.get("execute") == WAIT]
    assert any(name.startswith("/machine/peripheral/d") for name in waits)
    threads = {
        outcome.state.users[device.user].context
        for _, _, outcome in seen.steps
        for device in outcome.state.devices.values()
        if device.user is not None
    }
    assert len(threads) > 1


def test_a_trace_stands_for_itself() -> None:
    for trace, outcomes in generated(4).traces[:40]:
        monitor = Monitor(DIALECT)
        for image in trace.images:
            monitor.images.from_spec(image)
        # What a target sees is JSON text; nothing else may have been in the commands.
        assert json.loads(json.dumps(trace.commands)) == list(trace.commands)
        state = monitor.state
        for command, outcome in zip(trace.commands, outcomes, strict=True):
            again = step(state, command, DIALECT)
            assert again.reply == outcome.reply
            state = again.state


def test_commands_never_use_names_that_qemu_made_up() -> None:
    for _, command, _ in generated(4).steps:
        assert '"#block' not in json.dumps(command)


def test_images_are_one_to_six_and_some_are_backed() -> None:
    images = [trace.images for trace, _ in generated(4).traces]
    assert all(1 <= len(each) <= MOST_IMAGES for each in images)
    assert {len(each) for each in images} == set(range(1, MOST_IMAGES + 1))
    assert any(image.backing for each in images for image in each)
    assert {image.format for each in images for image in each} == {"qcow2", "raw"}
    assert all(image.size % 65536 == 0 for each in images for image in each)


def test_graphs_stay_moderate() -> None:
    sizes = [len(outcome.state.nodes) for _, _, outcome in generated(4).steps]
    assert max(sizes) <= 20
    assert sum(size > 14 for size in sizes) < len(sizes) / 20


def test_few_traces_meet_a_hazard() -> None:
    met = [any(o.hazards for o in outcomes) for _, outcomes in generated(4).traces]
    assert sum(met) < len(met) / 10


def test_enough_ends_a_run() -> None:
    seen: list[Trace] = []

    def on_trace(trace: Trace, _outcomes: tuple[Outcome, ...]) -> None:
        seen.append(trace)
        if len(seen) == 3:
            raise Enough

    run(machine_for(DIALECT, on_trace=on_trace), examples=50, steps=5, seed_number=1)
    assert len(seen) == 3


def test_what_a_callback_raises_is_seen() -> None:
    def on_step(_before: BlockState, _command: Command, _outcome: Outcome) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(machine_for(DIALECT, on_step), examples=5, steps=5, seed_number=1)


@settings(max_examples=3)
class _AsATestCase(machine_for(DIALECT, details="draws")):  # type: ignore[misc]  # a class made by a function
    """The machine is an ordinary one."""


TestOrdinary = _AsATestCase.TestCase
