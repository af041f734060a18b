# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables are whole, and each way to spoil a command is possible."""

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
from strategies.catalogue import FIXED, LIVE, NAMING, OPTIONS, options_of
from strategies.choosing import DrawChooser, RandomChooser
from strategies.commands import BUILDERS, CHOOSERS, build_malformed
from strategies.describing import described
from strategies.malforming import malformed
from strategies.scene import Scene
from strategies.spoiling import SPOILS
from strategies.wrong_additions import NEW_OPTIONS
from strategies.wrong_options import ANY_OPTIONS, OWN_OPTIONS
from strategies.wrong_reopens import REOPENED_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.values.trace import Command

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
    for name, build in BUILDERS.values():
        if name == command:
            # The machine's preconditions keep builders from states that they cannot do with.
            with contextlib.suppress(LookupError):
                yield build(scene)
    for choose in CHOOSERS.values():
        with contextlib.suppress(LookupError):
            chosen = choose(scene)
            if chosen["execute"] == command and chosen.get("arguments"):
                yield chosen["arguments"]


def _applies(spoils: tuple[object, ...], command: str) -> set[str]:
    """Which of the spoils could be applied to some right command in some state."""
    done: set[str] = set()
    dialect = DIALECT if DIALECT.schema.knows(command) else EMULATOR
    for number, state in enumerate(states(dialect)):
        scene = Scene(state, RandomChooser(number), dialect)
        for arguments in _right(scene, command):
            for spoil in spoils:
                each = copy.deepcopy(arguments)
                target = each["options"][0] if command == "blockdev-reopen" else each
                if spoil(scene, target):  # type: ignore[operator]
                    done.add(spoil.__name__)  # type: ignore[attr-defined]
                    json.dumps(each)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoils", "command"),
    [
        (NEW_OPTIONS, "blockdev-add"),
        (REOPENED_OPTIONS, "blockdev-reopen"),
        (ANY_OPTIONS, "blockdev-add"),
        (tuple(x for own in OWN_OPTIONS.values() for x in own), "blockdev-add"),
    ],
)
def test_every_spoil_applies_somewhere(spoils: tuple[object, ...], command: str) -> None:
    names = {spoil.__name__ for spoil in spoils}  # type: ignore[attr-defined]
    # A function of its own driver is asked with every driver's options here.
    kept = {"unclean_quorum", "unknown_group", "native_without_direct"} & names
    found = _applies(tuple(s for s in spoils if s.__name__ not in kept), command)  # type: ignore[attr-defined]
    assert names - kept <= found


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(set(SPOILS) - {"blockdev-add", "blockdev-reopen"}))
def test_every_spoil_of_the_other_commands_applies(command: str) -> None:
    names = {spoil.__name__ for spoil in SPOILS[command]}
    assert names == _applies(SPOILS[command], command)


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
