# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables are whole, and each way to make a command wrong is possible."""

from __future__ import annotations

import contextlib
import copy
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from model import BlockState, Dialect, Monitor, Outcome, find_dialect
from model.release.dialects.qemu_7_2 import QEMU_7_2
from strategies import machine_for, run
from strategies.actions import ACTIONS, FAULTS, build_malformed
from strategies.builders.current_options import described
from strategies.builders.scene import Scene
from strategies.choices.chooser import DrawChooser, RandomChooser
from strategies.choices.option_values import FIXED, LIVE, NAMING, OPTIONS, options_of
from strategies.near_valid.fault import said
from strategies.near_valid.malformed import malformed
from strategies.near_valid.wrong_nodes import NEW_OPTIONS
from strategies.near_valid.wrong_options import (
    ANY_OPTIONS,
    OWN_OPTIONS,
    native_without_direct,
    unclean_quorum,
    unknown_group,
)
from strategies.near_valid.wrong_reopens import REOPENED_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from model.values.trace import Command
    from strategies.near_valid.fault import Fault

DIALECT = find_dialect("qemu-7.2")
EMULATOR = find_dialect("qemu-system-7.2")


@lru_cache
def states(dialect: Dialect) -> tuple[BlockState, ...]:
    """States of many kinds, with nodes in them."""
    seen: list[BlockState] = []

    def on_step(_before: BlockState, _command: Command, outcome: Outcome) -> None:
        if outcome.ok and outcome.state.nodes and not outcome.hazards:
            seen.append(outcome.state)

    run(machine_for(dialect, on_step), examples=120, steps=30, seed_number=7)
    return tuple(seen[::5])


@pytest.mark.parametrize("driver", sorted(OPTIONS))
def test_every_option_of_the_schemas_is_in_the_catalogue(driver: str) -> None:
    listed = {
        member.name
        for release in ("7.2", "10.0", "11.1")
        for member in find_dialect(f"qemu-{release}").schema.members("blockdev-add.arg", driver)
    }
    known = {option.name for option in options_of(driver)}
    assert known <= listed
    assert listed - known <= NAMING | {"test", "raw"}


@pytest.mark.parametrize("release", ["7.2", "10.0"])
def test_only_what_a_release_has_is_tried(release: str) -> None:
    scene = Scene(BlockState(), RandomChooser(0), find_dialect(f"qemu-{release}"))
    known = {option.name for option in scene.known("qcow2", options_of("qcow2"))}
    assert known >= {"cache", "lazy-refcounts"}
    assert ("active" in known, "discard-no-unref" in known) == (release == "10.0",) * 2
    assert scene.takes("blockdev-backup.arg.x-perf", "min-cluster-size") == (release == "10.0")
    assert not scene.takes("no-such-type", "x")


@pytest.mark.parametrize("driver", sorted(OPTIONS))
def test_enumerations_are_tried_with_all_their_values(driver: str) -> None:
    schema = DIALECT.schema
    for member in schema.members("blockdev-add.arg", driver):
        option = next((o for o in options_of(driver) if o.name == member.name), None)
        if option and "enum" in schema.types.get(member.type, {}):
            left = set(schema.values(member.type)) - set(option.good)
            assert left <= {"io_uring"}, member.name


def test_options_are_live_or_fixed() -> None:
    for driver in OPTIONS:
        assert not {o.name for o in LIVE[driver]} & {o.name for o in FIXED[driver]}


def _right(scene: Scene, command: str) -> Iterator[dict[str, Any]]:
    """Arguments for a command from all builders that make it."""
    for action in ACTIONS.values():
        if not action.fault_rate:
            continue
        # The machine's preconditions keep builders from states that they cannot do with.
        with contextlib.suppress(LookupError):
            built = action.build(scene)
            for each in built if isinstance(built, list) else [built]:
                if each["execute"] == command and each.get("arguments"):
                    yield each["arguments"]


def _applies(faults: Iterable[Fault], command: str) -> set[str]:
    """What the faults say of themselves that applied to some right command in some state."""
    done: set[str] = set()
    dialect = DIALECT if DIALECT.schema.knows(command) else EMULATOR
    for number, state in enumerate(states(dialect)):
        scene = Scene(state, RandomChooser(number), dialect)
        for arguments in _right(scene, command):
            for fault in dict.fromkeys(faults):
                each = copy.deepcopy(arguments)
                target = each["options"][0] if command == "blockdev-reopen" else each
                if fault(scene, target):
                    done.add(said(fault))
                    json.dumps(each)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "command"),
    [
        (NEW_OPTIONS, "blockdev-add"),
        (REOPENED_OPTIONS, "blockdev-reopen"),
        (ANY_OPTIONS, "blockdev-add"),
        (tuple(x for own in OWN_OPTIONS.values() for x in own), "blockdev-add"),
    ],
)
def test_every_fault_of_options_applies_somewhere(faults: tuple[Fault, ...], command: str) -> None:
    # A function of its own driver is asked with every driver's options here.
    asked = [x for x in faults if x not in (unclean_quorum, unknown_group, native_without_direct)]
    assert {said(fault) for fault in asked} == _applies(asked, command)


OTHERS = set(FAULTS) - {"blockdev-add", "blockdev-reopen", "x-blockdev-reopen"}


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(OTHERS - {"nbd-server-stop"}))
def test_every_fault_of_the_other_commands_applies(command: str) -> None:
    assert {said(fault) for fault in FAULTS[command]} == _applies(FAULTS[command], command)


def test_what_has_no_address_has_no_wrong_one() -> None:
    scene = Scene(BlockState(), RandomChooser(0), DIALECT)
    arguments: dict[str, Any] = {}
    assert not any(fault(scene, arguments) for fault in FAULTS["nbd-server-stop"])
    assert arguments == {}


def test_described_options_are_those_that_were_given() -> None:
    monitor = Monitor(DIALECT)
    monitor.images.create("hd0.qcow2", format="qcow2", size=1 << 20)
    given = {
        "driver": "qcow2",
        "node-name": "top",
        "lazy-refcounts": True,
        "overlap-check": {"template": "cached", "main-header": False},
        "file": {
            "driver": "blkdebug",
            "node-name": "mid",
            "inject-error": [{"event": "read_aio"}],
            "image": {"driver": "file", "filename": "hd0.qcow2"},
        },
    }
    assert monitor.execute({"execute": "blockdev-add", "arguments": given}) == {"return": {}}
    scene = Scene(monitor.state, RandomChooser(0), QEMU_7_2)
    assert described(scene, monitor.state.nodes["top"], inline=100) == given
    by_name = described(scene, monitor.state.nodes["top"], inline=0)
    assert by_name == {**given, "file": "mid"}


def test_malforming_breaks_something() -> None:
    command = {"execute": "block_resize", "arguments": {"node-name": "n0", "size": 512}}
    for seed in range(200):
        broken = malformed(RandomChooser(seed), copy.deepcopy(command))
        assert broken != command
        size = broken.get("arguments", {}) and dict(broken).get("arguments")
        if isinstance(size, dict) and isinstance(size.get("size"), int):
            assert size["size"] in (512, True, 2**65)


@pytest.mark.slow
def test_most_malformed_commands_are_refused() -> None:
    refused = total = 0
    for number, state in enumerate(states(DIALECT)):
        monitor = Monitor(DIALECT)
        monitor.state = state
        reply = monitor.execute(build_malformed(Scene(state, RandomChooser(number), QEMU_7_2)))
        refused += "error" in reply
        total += 1
    assert refused > 0.75 * total


def test_choosers_stay_within_bounds() -> None:
    choose = RandomChooser(1)
    assert {choose.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert {choose.one_of("ab") for _ in range(50)} == {"a", "b"}
    assert not any(choose.chance(0) for _ in range(200))
    assert all(choose.chance(100) for _ in range(200))
    assert all(len(set(x)) == len(x) <= 2 for x in (choose.some("abc", 2) for _ in range(50)))


def test_the_plainest_choice_is_the_first() -> None:
    class Least(DrawChooser):
        def integer(self, low: int, high: int) -> int:
            st.integers(low, high).validate()
            return low

    assert Least(None).one_of("xyz") == "x"
    assert not Least(None).chance(99)
