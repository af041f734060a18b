# SPDX-License-Identifier: GPL-2.0-or-later
"""Delta debugging against predicates that are known exactly."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from checker.reduce import ddmin, reduce_trace
from checker.settling import is_wait
from model.values.image_layout import ImageError
from model.values.trace import ImageSpec, Trace
from targets.errors import TargetError


def command(name: str, **arguments: Any) -> dict[str, Any]:
    return {"execute": name, "arguments": arguments}


@given(st.sets(st.integers(0, 59), max_size=6))
def test_ddmin_finds_exactly_what_is_needed(needed: set[int]) -> None:
    assert set(ddmin(range(60), lambda kept: needed <= set(kept))) == needed


def test_reduces_commands_images_and_members() -> None:
    commands = [command(f"c{n}", x=n) for n in range(30)]
    commands[7] = command("open", node="n0", options={"cache": {"direct": True}, "discard": "off"})
    commands[21] = command("break", nodes=["n0", "n1", "n2"], force=True)
    images = tuple(ImageSpec(f"hd{n}.raw", "raw", 1024) for n in range(4))

    def fails(trace: Trace) -> bool:
        by_name = {c["execute"]: c["arguments"] for c in trace.commands}
        return bool(
            by_name.get("open", {}).get("options", {}).get("cache", {}).get("direct") is True
            and "n1" in by_name.get("break", {}).get("nodes", ())
            and any(image.name == "hd2.raw" for image in trace.images)
        )

    found = reduce_trace(Trace(images, tuple(commands)), fails, 500)
    assert found.finished
    assert found.trace == Trace(
        (images[2],),
        (command("open", options={"cache": {"direct": True}}), command("break", nodes=["n1"])),
    )
    assert found.replays < 80


def test_a_backing_file_stays_with_its_overlay() -> None:
    images = (
        ImageSpec("base.raw", "raw", 1),
        ImageSpec("top.qcow2", "qcow2", 1, "base.raw", "raw"),
        ImageSpec("other.raw", "raw", 1),
    )

    def fails(trace: Trace) -> bool:
        names = {image.name for image in trace.images}
        assert "top.qcow2" not in names or "base.raw" in names
        return "top.qcow2" in names

    assert reduce_trace(Trace(images, ()), fails).trace.images == images[:2]


def test_is_bounded_and_keeps_the_best() -> None:
    asked = 0

    def fails(trace: Trace) -> bool:
        nonlocal asked
        asked += 1
        return len(trace.commands) >= 3

    trace = Trace((), tuple(command(f"c{n}") for n in range(64)))
    found = reduce_trace(trace, fails, 5)
    assert asked == found.replays == 5
    assert not found.finished
    assert 3 <= len(found.trace.commands) < 64


def test_stops_when_told() -> None:
    trace = Trace((), tuple(command(f"c{n}") for n in range(8)))
    found = reduce_trace(trace, lambda _: True, stopped=lambda: True)
    assert (found.trace, found.replays, found.finished) == (trace, 0, False)


def test_never_asks_twice() -> None:
    asked: list[str] = []

    def fails(trace: Trace) -> bool:
        asked.append(repr(trace))
        return [c["execute"] for c in trace.commands].count("keep") >= 2

    commands = tuple(command("keep" if n % 3 == 0 else "drop", a=1, b=[1]) for n in range(12))
    reduce_trace(Trace((), commands), fails, 1000)
    assert len(asked) == len(set(asked))


def test_commands_without_arguments_are_left_alone() -> None:
    trace = Trace((), ({"execute": "a"},))
    assert reduce_trace(trace, lambda t: len(t.commands) == 1).trace == trace


def waiting(trace: Trace) -> Trace:
    """Each ``start`` is followed by a wait for as many jobs as were started by then."""
    commands: list[dict[str, Any]] = []
    started = 0
    for each in trace.commands:
        if is_wait(each):
            continue
        commands.append(each)
        if each["execute"] == "start":
            started += 1
            commands.append(command("reopencheck-wait", id=f"j{started}", status="ready"))
    return Trace(trace.images, tuple(commands))


def test_waits_follow_from_the_other_commands() -> None:
    asked: list[Trace] = []

    def fails(trace: Trace) -> bool:
        assert trace == waiting(trace), "no trace is asked about whose waits are not right"
        asked.append(trace)
        return [c["execute"] for c in trace.commands].count("start") >= 2

    commands = tuple(command("start" if n % 2 else "other", x=n) for n in range(16))
    found = reduce_trace(waiting(Trace((), commands)), fails, 500, settle=waiting)
    assert found.finished
    assert found.trace.commands == (
        command("start"),
        command("reopencheck-wait", id="j1", status="ready"),
        command("start"),
        command("reopencheck-wait", id="j2", status="ready"),
    )
    assert len(asked) < 40


def test_what_is_written_becomes_less() -> None:
    write = command("reopencheck-write", node="n0", offset=65536, length=200000, pattern=7)
    read = command("reopencheck-read", node="n0")
    data = ((0, 4096, 1), (1048576, 1 << 20, 2), (8192, 4096, 3))

    def fails(trace: Trace) -> bool:
        written = [c for c in trace.commands if c["execute"] == "reopencheck-write"]
        return (
            bool(written)
            and written[0]["arguments"]["length"] >= 10000
            and any(c["execute"] == "reopencheck-read" for c in trace.commands)
            and any(run[2] == 2 and run[1] >= 512 for i in trace.images for run in i.data)
        )

    trace = Trace((ImageSpec("a.raw", "raw", 1 << 22, data=data),), (read, write, read, write))
    small = reduce_trace(trace, fails, 500).trace
    assert small.images[0].data == ((1048576, 512, 2),)
    executed = {each["execute"]: each["arguments"] for each in small.commands}
    assert executed == {
        "reopencheck-write": {"node": "n0", "offset": 65536, "length": 12288, "pattern": 7},
        "reopencheck-read": {"node": "n0"},
    }


def test_a_trace_whose_images_cannot_be_made_does_not_hold() -> None:
    def refuses(trace: Trace) -> Trace:
        if len(trace.images) < 2:
            raise ImageError("no")
        return trace

    images = (ImageSpec("a.raw", "raw", 1), ImageSpec("b.raw", "raw", 1), ImageSpec("c", "raw", 1))
    found = reduce_trace(Trace(images, ()), lambda _: True, settle=refuses)
    assert len(found.trace.images) == 2


def test_a_candidate_that_cannot_be_carried_out_shows_nothing() -> None:
    trace = Trace((), tuple(command(f"c{n}") for n in range(6)))

    def fails(candidate: Trace) -> bool:
        names = [each["execute"] for each in candidate.commands]
        if "c1" not in names:
            raise TargetError("the daemon does not start: attempt to add duplicate property 'io0'")
        return "c4" in names

    assert [c["execute"] for c in reduce_trace(trace, fails).trace.commands] == ["c1", "c4"]
