# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of actions is whole, and what is made from it follows it."""

from __future__ import annotations

import collections
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import settings

from model import BlockState, Dialect, Monitor, find_dialect
from model.commands import COMMANDS
from model.commands.harness import DRIVING
from model.release.dialects import DIALECTS, PROPOSALS
from strategies import actions, alphabet, machine_for, run
from strategies.action import Action
from strategies.actions import ACTIONS, COPYING, FAULTS, NOT_BUILT, build, build_malformed
from strategies.builders.jobs import VERBS
from strategies.builders.scene import Scene
from strategies.builders.situation import always, only_at_first
from strategies.choices.chooser import RandomChooser
from strategies.listing import page
from strategies.near_valid.fault import said

if TYPE_CHECKING:
    from model.values.trace import Command
    from strategies import ReopenMachine

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
DAEMON = find_dialect("qemu-7.2")
EMULATOR = find_dialect("qemu-system-7.2")

Sent = dict[str, collections.Counter[str]]


def watched(dialect: Dialect, sent: Sent) -> type[ReopenMachine]:
    """The machine for a dialect, which counts the commands of each action that got into traces."""
    ordinary = machine_for(dialect)

    def carry_out(self: ReopenMachine, action: str, commands: list[Command]) -> None:
        before = len(self.commands)
        ordinary.carry_out(self, action, commands)
        for command in self.commands[before:]:
            if command.get("execute") not in NOT_BUILT:
                sent[action][str(command.get("execute"))] += 1

    return type("Watched", (ordinary,), {"carry_out": carry_out})


@lru_cache
def sent_by_actions(dialect: Dialect) -> Sent:
    """The commands that each action has sent in some examples."""
    sent: Sent = collections.defaultdict(collections.Counter)
    run(watched(dialect, sent), examples=160, steps=30, seed_number=5)
    return sent


def test_each_command_of_the_spec_has_a_row_or_a_reason_for_having_none() -> None:
    built = {command for action in ACTIONS.values() for command in action.commands}
    assert built | NOT_BUILT.keys() == {*COMMANDS, *DRIVING}
    assert not built & NOT_BUILT.keys()
    assert all(NOT_BUILT.values())


def test_rows_for_the_same_command_name_the_same_faults() -> None:
    for action in ACTIONS.values():
        for command in action.commands:
            assert FAULTS.get(command, ()) == action.faults, (action.name, command)


def test_every_row_and_every_fault_says_what_it_is() -> None:
    for action in ACTIONS.values():
        assert action.about, action.name
        assert action.when.__doc__, action.name
        for fault in action.faults:
            assert said(fault), (action.name, fault.__name__)


def test_verbs_of_jobs_are_those_of_the_spec() -> None:
    known = {
        each.removeprefix("block-").removeprefix("job-") for each in COMMANDS if "job-" in each
    }
    assert set(VERBS) == known


@pytest.mark.parametrize("name", [*DIALECTS, *PROPOSALS])
def test_a_release_has_the_rules_for_what_it_has(name: str) -> None:
    dialect = find_dialect(name)
    machine = machine_for(dialect)
    for action in ACTIONS.values():
        known = not action.commands or any(
            command in DRIVING or dialect.schema.knows(command) for command in action.commands
        )
        assert action.is_known(dialect) == known
        assert hasattr(machine, action.name) == (known and action.when is not only_at_first)


@pytest.mark.slow
def test_every_row_is_reached_and_sends_what_it_is_there_for() -> None:
    daemon, emulator = sent_by_actions(DAEMON), sent_by_actions(EMULATOR)
    for action in ACTIONS.values():
        if action.when is only_at_first:
            continue
        sent = daemon[action.name] + emulator[action.name]
        assert sent, action.name
        wanted = set(action.commands) - {"x-blockdev-reopen"}
        assert wanted <= sent.keys(), (action.name, sent)


@pytest.mark.slow
def test_a_release_that_reopens_one_node_is_told_so() -> None:
    sent: Sent = collections.defaultdict(collections.Counter)
    run(watched(find_dialect("qemu-5.2"), sent), examples=30, steps=30, seed_number=5)
    assert sent["reopen_options"].keys() == {"x-blockdev-reopen"}


@pytest.mark.slow
def test_no_row_sends_what_no_row_is_there_for() -> None:
    known = {command for action in ACTIONS.values() for command in action.commands}
    for sent in (sent_by_actions(DAEMON), sent_by_actions(EMULATOR)):
        for name, commands in sent.items():
            if name != "malformed":
                assert commands.keys() <= known, name


def test_what_may_be_malformed_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: collections.Counter[str] = collections.Counter()

    def noted(scene: Scene, name: str, **how: Any) -> list[Command]:
        taken[name] += 1
        return [{"execute": "query-jobs", "arguments": {"x": 1}}]

    monkeypatch.setattr(actions, "build", noted)
    rows = {name: attrs.evolve(action, when=always) for name, action in ACTIONS.items()}
    monkeypatch.setattr(actions, "ACTIONS", rows)
    for seed in range(1500):
        build_malformed(Scene(BlockState(), RandomChooser(seed), EMULATOR))
    assert taken.keys() == {action.name for action in ACTIONS.values() if action.malformable}
    once = [count for name, count in taken.items() if ACTIONS[name].malformable == 1]
    assert taken["job_verb"] > sum(once) / len(once) * 1.4


def test_only_what_is_possible_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty graph there is no node to delete, and a 5.2 makes no objects."""
    taken: set[str] = set()

    def noted(scene: Scene, name: str, **how: Any) -> list[Command]:
        taken.add(name)
        return [{"execute": "query-jobs", "arguments": {"x": 1}}]

    monkeypatch.setattr(actions, "build", noted)
    for seed in range(300):
        build_malformed(Scene(BlockState(), RandomChooser(seed), find_dialect("qemu-5.2")))
    adds = {"add_protocol", "add_chain", "add_filter", "add_quorum"}
    assert taken == {*adds, "nbd_server", "query_nodes"}


def test_faults_belong_to_the_command_whoever_builds_it() -> None:
    """A row that sends what others are there for makes the faults of those."""
    monitor = Monitor(DAEMON)
    monitor.images.create("hd0.raw", format="raw", size=1 << 20)
    wrong = 0
    for seed in range(60):
        scene = Scene(monitor.state, RandomChooser(seed), DAEMON)
        (command,) = build(scene, "nbd_server", fault_rate=100)
        arguments = command.get("arguments", {})
        is_right = arguments == {"addr": {"type": "unix", "data": {"path": "nbd.sock"}}}
        wrong += command["execute"] == "nbd-server-start" and not is_right
        assert (command["execute"] == "nbd-server-stop") == (arguments == {})
    assert wrong > 40


def test_what_copies_is_known_by_its_row() -> None:
    assert {"block-commit", "blockdev-mirror", "device_add", "reopencheck-read"} <= COPYING
    assert "blockdev-snapshot" not in COPYING


def test_the_alphabet_is_what_the_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its letters a row's commands are gone from the alphabet, and nothing else is."""
    monitor = Monitor(DAEMON)
    for image in alphabet.images(2):
        monitor.images.from_spec(image)
    start = monitor.state
    every = list(alphabet.letters(start, start, 2))
    rows = {name: action for name, action in ACTIONS.items() if name != "delete"}
    monkeypatch.setattr(alphabet, "ACTIONS", rows)
    left = list(alphabet.letters(start, start, 2))
    assert [each for each in every if each["execute"] != "blockdev-del"] == left
    assert len(left) < len(every)


def test_a_new_command_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row alone makes a rule of the machine that is sent."""
    from strategies import machine  # noqa: PLC0415  # its rules are made when it is loaded

    def ask(_scene: Scene) -> Command:
        """Ask for the jobs once more."""
        return {"execute": "query-jobs"}

    row = Action("ask_again", ("query-jobs",), ask)
    rows = {**ACTIONS, row.name: row}
    monkeypatch.setattr(actions, "ACTIONS", rows)
    monkeypatch.setattr(machine, "ACTIONS", rows)
    sent: Sent = collections.defaultdict(collections.Counter)
    run(watched(DAEMON, sent), examples=20, steps=20, seed_number=1)
    assert sent["ask_again"].keys() == {"query-jobs"}


def test_the_page_of_the_commands_is_up_to_date() -> None:
    told = "the page is old: .venv/bin/python -m strategies.listing > docs/commands.md"
    assert PAGE.read_text(encoding="utf-8") == page(), told


@settings(max_examples=2, stateful_step_count=5)
class _Drawn(machine_for(DAEMON, details="draws")):  # type: ignore[misc]  # a class made by a function
    """Each row can be drawn choice by choice, too."""


TestDrawn = _Drawn.TestCase
