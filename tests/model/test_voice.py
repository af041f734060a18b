# SPDX-License-Identifier: GPL-2.0-or-later
"""What the spec once said in QEMU's voice though no QEMU says so; each was seen on the daemons."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.values.image_layout import ImageError
from model.release.rules import NOT_MODELLED

MIB = 1 << 20


def run(monitor: Monitor, command: str, **arguments: Any) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return monitor.execute({"execute": command, "arguments": named})


def error(reply: dict[str, Any]) -> str:
    return str(reply["error"]["desc"])


@pytest.mark.parametrize("driver", ["null-co", "null-aio"])
def test_nobody_knows_what_a_null_node_reads_as(driver: str) -> None:
    """QEMU leaves the buffer as it was; behind what an image has itself it shows just the same."""
    monitor = Monitor()
    monitor.images.create("a.qcow2", format="qcow2", size="1M")
    run(monitor, "blockdev-add", driver=driver, node_name="n", size=MIB)
    file = {"driver": "file", "filename": "a.qcow2"}
    run(monitor, "blockdev-add", driver="qcow2", node_name="q", file=file, backing="n")
    for node in ("n", "q"):
        reply = run(monitor, "reopencheck-read", node=node)
        assert reply["error"]["class"] == NOT_MODELLED
        with pytest.raises(ImageError, match="nobody knows"):
            monitor.read(node, 0, 512)
    monitor.write("q", 0, MIB, 3)
    assert monitor.read("q", 0, 2) == b"\3\3"


@pytest.mark.parametrize("dialect", ["qemu-5.2", "qemu-7.2", "qemu-11.1"])
def test_a_vote_threshold_has_32_bits(dialect: str) -> None:
    monitor = Monitor(dialect)
    run(monitor, "blockdev-add", driver="null-co", node_name="n")
    quorum = {"driver": "quorum", "node_name": "q", "children": ["n"]}
    for low in (1 << 31, 1 << 32):
        text = error(run(monitor, "blockdev-add", **quorum, vote_threshold=low))
        assert text.startswith("Parameter 'vote-threshold' expects")
    assert run(monitor, "blockdev-add", **quorum, vote_threshold=(1 << 32) + 1) == {"return": {}}


@pytest.mark.parametrize("member", ["offset", "size"])
def test_a_window_that_5_2_reads_as_2_to_the_63_does_not_fit(member: str) -> None:
    monitor = Monitor("qemu-5.2")
    run(monitor, "blockdev-add", driver="null-co", node_name="n", size=MIB)
    arguments = {"driver": "raw", "node_name": "r", "file": "n", member: 2**63 - 1}
    assert "the containing file" in error(run(monitor, "blockdev-add", **arguments))
    assert "r" not in monitor.state.nodes


def test_a_filter_that_cannot_say_how_long_it_is_loses_the_rest_of_a_sector() -> None:
    monitor = Monitor()
    for name in ("a.raw", "b.raw"):
        monitor.images.create(name, format="raw", size="1M")
        run(monitor, "blockdev-add", driver="file", node_name=name[0], filename=name)
    run(monitor, "blockdev-add", driver="raw", node_name="r", file="a")
    run(monitor, "blockdev-add", driver="copy-before-write", node_name="c", file="r", target="b")
    assert run(monitor, "block_resize", node_name="c", size=MIB + 1) == {"return": {}}
    assert monitor.state.nodes["c"].size == MIB
    assert monitor.state.nodes["r"].size == MIB + 512


@pytest.mark.parametrize(("at", "ends"), [(111, True), (112, False)])
def test_blkverify_compares_what_a_format_looks_at(at: int, *, ends: bool) -> None:
    """QEMU reads 112 bytes to see what an image is; where two files differ in them, it ends."""
    monitor = Monitor()
    for name in ("a", "b"):
        monitor.images.create(name, format="raw", size="1M")
        run(monitor, "blockdev-add", driver="file", node_name=name, filename=name)
    monitor.write("a", at, 1, 7)
    file = {"driver": "blkverify", "test": "a", "raw": "b"}
    run(monitor, "blockdev-add", driver="qcow2", node_name="q", file=file)
    assert monitor.outcome is not None
    assert not monitor.outcome.ok
    assert monitor.outcome.ended is ends


@pytest.mark.parametrize(("dialect", "sure"), [("qemu-7.2", False), ("qemu-10.0", True)])
def test_a_job_that_sleeps_is_woken_by_who_drains_its_nodes(dialect: str, sure: bool) -> None:
    """Before 10.0, how many chunks it then copies differs from run to run."""
    monitor = Monitor(dialect)
    monitor.images.create("b.qcow2", format="qcow2", size="1M")
    monitor.images.write("b.qcow2", 0, MIB, 1)
    monitor.images.create("t.qcow2", format="qcow2", backing="b.qcow2", backing_format="qcow2")
    file = {"driver": "file", "filename": "t.qcow2"}
    run(monitor, "blockdev-add", driver="qcow2", node_name="t", file=file)
    run(monitor, "block-stream", device="t", job_id="j", speed=1)
    run(monitor, "blockdev-add", driver="null-co", node_name="n")
    assert monitor.outcome is not None
    assert monitor.outcome.ok
    reply = run(monitor, "reopencheck-read", node="t")
    assert ("return" in reply) is sure
    assert monitor.outcome.unmodelled == (set() if sure else {"block-stream.speed"})


ODD: tuple[Any, ...] = (None, True, 1.5, [], {}, b"x", 10**5000, -1, "\ud800", object())


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_a_library_user_gets_an_image_error_for_odd_arguments(odd: Any) -> None:
    monitor = Monitor()
    monitor.images.create("a", format="raw", size="1M")
    run(monitor, "blockdev-add", driver="file", node_name="a", filename="a")
    calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (monitor.read, (odd, 0, 1), {}),
        (monitor.read, ("a", odd, 1), {}),
        (monitor.write, (odd, 0, 1, 1), {}),
        (monitor.write, ("a", odd, 1, 1), {}),
        (monitor.write, ("a", 0, 1, odd), {}),
        (monitor.images.write, (odd, 0, 1, 1), {}),
        (monitor.images.write, ("a", 0, odd, 1), {}),
        (monitor.images.create, ("b",), {"format": odd, "size": "1M"}),
    ]
    for call, arguments, named in calls:
        with pytest.raises(ImageError):
            call(*arguments, **named)


def test_what_takes_for_ever_is_answered_at_once() -> None:
    monitor = Monitor()
    run(monitor, "blockdev-add", driver="null-co", node_name="n", size=2**62, read_zeroes=True)
    for command, more in (
        ("reopencheck-read", {}),
        ("reopencheck-write", {"offset": 0, "length": 2**62, "pattern": 1}),
    ):
        assert run(monitor, command, node="n", **more)["error"]["class"] == NOT_MODELLED
    with pytest.raises(ImageError, match="more than"):
        monitor.read("n", 0, 2**40)
    with pytest.raises(ImageError, match="not a size"):
        monitor.images.create("b", format="raw", size="9" * 5000)
