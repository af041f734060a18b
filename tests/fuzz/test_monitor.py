# SPDX-License-Identifier: GPL-2.0-or-later
"""20,000 spoiled commands on the model, over all dialects; and that the watch is awake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import Monitor, step
from model.release.dialects.qemu_7_2 import QEMU_7_2
from tests.fuzz import monitor, watching
from tests.fuzz.watching import Faults, inputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import Outcome

ADD = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n0"}}


@pytest.mark.parametrize("name", sorted(monitor.EVERY))
def test_every_command_has_a_reply(name: str) -> None:
    faults = Faults(name)
    monitor.fuzz(monitor.EVERY[name], inputs(20_000 // len(monitor.EVERY)), 1, faults)
    assert not faults.buckets, faults.text()
    assert faults.accepted > faults.inputs // 30, "the inputs are all refused for trifles"


def test_the_same_seed_makes_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    plain = monitor.attempt

    def note(state: Any, command: Any, dialect: Any, faults: Faults) -> Any:
        seen[-1].append(watching._short(command))
        return plain(state, command, dialect, faults)

    monkeypatch.setattr(monitor, "attempt", note)
    for seed in (1, 1, 2):
        seen.append([])
        monitor.fuzz(QEMU_7_2, 100, seed, Faults())
    assert seen[0] == seen[1] != seen[2]
    assert len(seen[0]) == 100


def endless(_outcome: Outcome) -> Outcome:
    while True:
        pass


def failing(_outcome: Outcome) -> Outcome:
    raise KeyError("node")


def other_state(outcome: Outcome) -> Outcome:
    changed = attrs.evolve(outcome.state, nbd_server="nbd.sock")
    return attrs.evolve(outcome, state=changed)


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        (failing, "KeyError"),
        (endless, "EndlessError"),
        (other_state, "blockdev-add: the command was refused and the state is another"),
        (lambda o: attrs.evolve(o, reply={}), "no well-formed reply to blockdev-add"),
        (lambda o: attrs.evolve(o, reply={"return": {}, "error": {}}), "no well-formed reply"),
        (lambda o: attrs.evolve(o, reply={"error": {"class": "x"}}), "no well-formed reply"),
        (
            lambda o: attrs.evolve(o, reply={"error": {"class": None, "desc": ""}}),
            "no well-formed reply",
        ),
        (lambda o: attrs.evolve(o, reply={"return": {1, 2}}), "TypeError"),
        (lambda o: attrs.evolve(o, events=(object(),)), "TypeError"),
    ],
)
def test_what_is_wrong_is_noticed(
    bent: Callable[[Outcome], Outcome], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Monitor(QEMU_7_2).state
    refused = {**ADD, "arguments": {"driver": "no-such-driver"}}
    sound = Faults()
    for command in (ADD, refused):
        assert monitor.attempt(state, command, QEMU_7_2, sound) is not None
    assert (sound.inputs, sound.accepted, sound.buckets.total()) == (2, 1, 0)

    plain = step
    monkeypatch.setattr(watching, "SECONDS", 0.05)
    monkeypatch.setattr(monitor, "step", lambda *arguments: bent(plain(*arguments)))
    faults = Faults("here")
    monitor.attempt(state, refused, QEMU_7_2, faults)
    (bucket,) = faults.buckets
    assert bucket.startswith(says)
    assert "here" in faults.text()
