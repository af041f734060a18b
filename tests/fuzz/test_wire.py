# SPDX-License-Identifier: GPL-2.0-or-later
"""3,000 spoiled conversations with daemons, odd greetings; and that the watch is awake."""

from __future__ import annotations

import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from targets.builds.binaries import Build
from targets.daemons.daemon import Daemon
from targets.daemons.own_commands import moves_nodes
from targets.errors import TargetError
from tests.fuzz import watching, wire
from tests.fuzz.mutations import Mutator
from tests.fuzz.watching import Faults, inputs

if TYPE_CHECKING:
    from pathlib import Path

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, '
    b'"capabilities": ["oob"]}}'
)
FAKE = """\
#!{python} -SE
import os, re, sys
descriptor = int(re.search("fd=([0-9]+)", " ".join(sys.argv))[1])
os.write(descriptor, {data!r})
"""


def test_every_conversation_comes_to_an_end() -> None:
    faults = wire.fuzz(inputs(3_000), 1)
    assert not faults.buckets, faults.text()
    assert faults.accepted > faults.inputs // 20, "the inputs are all spoiled beyond reading"


def test_a_sound_daemon_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PAUSE", 0.5)
    sound = [each for each in wire.examples() if not moves_nodes(each.trace.commands)]
    faults = Faults()
    for example in sound:
        wire.converse(example, wire.lines_of(example), faults)
    assert not faults.buckets, faults.text()
    assert faults.accepted >= len(sound) // 2


def test_odd_greetings_are_one_line(tmp_path: Path) -> None:
    random = Random(1)
    mutator = Mutator(random)
    sound = [GREETING, b'{"return": {}}']
    odd: list[list[bytes]] = [[], [b"{"], [b"[]", b"{}"], [b'{"QMP": 7}'], [GREETING, b"7"]]
    odd += [wire.spoiled(sound, mutator, random) for _ in range(inputs(40))]
    refusals = []
    for lines in odd:
        script = tmp_path / "daemon"
        data = b"".join(line + b"\r\n" for line in lines)
        script.write_text(FAKE.format(python=sys.executable, data=data), encoding="utf-8")
        script.chmod(0o755)
        try:
            with Daemon(Build((str(script),), "7.2.22", "7.2", "a fake")):
                pass
        except TargetError as error:
            refusals.append(str(error))
    assert len(refusals) > len(odd) // 2
    assert [text for text in refusals if len(text.splitlines()) != 1] == []


def failing(*_: Any, **__: Any) -> Any:
    raise KeyError("id")


@pytest.mark.parametrize(
    ("name", "bent"),
    [
        ("Exchange.__init__", failing),
        ("Exchange.finish", failing),
        ("Exchange.observations", failing),
        ("Exchange.replies", failing),
        ("compare_trace", failing),
    ],
)
def test_what_a_replay_does_wrong_is_noticed(
    name: str, bent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example, *_) = wire.examples()
    monkeypatch.setattr(f"tests.fuzz.wire.{name}", bent)
    faults = Faults()
    wire.converse(example, wire.lines_of(example), faults)
    assert list(faults.buckets) == ["KeyError"]


def test_a_replay_that_ends_well_has_all_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    (example, *_) = wire.examples()
    monkeypatch.setattr("tests.fuzz.wire.Exchange.finish", lambda *_: None)
    faults = Faults()
    wire.converse(example, [], faults)
    assert list(faults.buckets) == ["a command without an answer in a replay that ended well"]


@pytest.mark.parametrize("error", [KeyError, MemoryError, watching.EndlessError])
def test_what_a_guest_does_wrong_is_noticed(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bent(*_: Any, **__: Any) -> Any:
        raise error

    sound = Faults()
    faults = Faults()
    with wire.Server() as server:
        wire.guest(server, wire.HANDSHAKES[1], Random(1), sound)
        monkeypatch.setattr("tests.fuzz.wire.Disk.__init__", bent)
        wire.guest(server, wire.HANDSHAKES[1], Random(1), faults)
    assert (sound.accepted, sound.buckets.total()) == (1, 0)
    assert list(faults.buckets) == [error.__name__]


def test_memory_is_limited() -> None:
    faults = Faults()
    with faults.watch(b""):
        bytearray(2 * watching.BYTES)
    assert list(faults.buckets) == ["MemoryError"]
