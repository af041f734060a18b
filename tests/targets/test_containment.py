# SPDX-License-Identifier: GPL-2.0-or-later
"""The gate: what reaches out is refused with its place, and what is harmless passes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from model.values.trace import ImageSpec, Trace
from targets.containment import check_trace
from targets.errors import ContainmentError
from tests.targets.hostile import IMAGES, add, command, hostile

if TYPE_CHECKING:
    from model.values.trace import Command

HOSTILE = hostile()
PLACE = re.compile(r"step \d+: |image |the image|two images|\d+ bytes from|\d+ images|\d+ steps|"
                   r"windows|runs of bytes|the images")  # fmt: skip


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 400
    assert len({name for name, _ in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize(("name", "trace"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_what_reaches_out_is_refused_with_its_place(name: str, trace: Trace) -> None:
    with pytest.raises(ContainmentError) as caught:
        check_trace(trace)
    said = str(caught.value)
    assert PLACE.match(said), said
    assert said.isprintable()
    assert len(said) < 400


HARMLESS: tuple[Command, ...] = (
    add(driver="file", filename="hd1.raw"),
    add(driver="file", filename="./hd1.raw"),
    add(driver="file", filename="hd-0_1.2+3"),
    add(driver="file", filename="/dev/null", node_name="/not/a/file"),
    add(driver="file", filename="."),
    add(driver="file", filename="", pr_manager="a:b"),
    add(driver="null-co", size=2**63 - 1),
    add(driver="null-co", size=2**90, odd=1e300),
    add(driver="null-co", latency_ns=-1),
    add(driver="qcow2", file="f", cache_size=2**60),
    add(driver="qcow2", file="f", backing=None),
    add(driver="no-such-driver"),
    add(driver={"zz": 1}, filename=["zz"]),
    command("block-commit", device="a", job_id="/j", base_node="/b", filter_node_name="/f"),
    command("block-commit", device="a", base="blkdebug::hd0.qcow2"),
    command("block-stream", device="a", base="null-co://", backing_file="x" * 1100),
    command("block-stream", device="a", backing_file="json:{'driver':'null-co','size':1}"),
    command(
        "block-stream",
        device="a",
        backing_file='json:{"driver":"raw","file":{"driver":"file",'
        ' "filename": "hd1.raw"}, "offset":512}',
    ),
    command("nbd-server-start", addr={"type": "unix", "data": {"path": "s", "abstract": False}}),
    command("object-add", qom_type="throttle-group", id="g", limits={"iops-total": -1}),
    command("device_add", driver="scsi-hd", id="d", drive="n", serial="a/b", bootsector=1),
    command("reopencheck-wait", id="/machine/peripheral/d0", status="unplugged"),
    command("reopencheck-wait", id="/job", status="paused", progress=524288),
    command("reopencheck-object", qom_type="iothread", id="io0"),
    {"execute": "no-such-command", "arguments": {"a": 1}},
    {"execute": "query-jobs", "id": {"own": [1, "/x"]}},
    {"execute": "query-jobs", "zz": 1},
    {"execute": 1, "arguments": {}},
    {"execute": "quit"},
    {},
)


@pytest.mark.parametrize("harmless", HARMLESS, ids=lambda each: str(each)[:80])
def test_what_is_harmless_passes(harmless: Command) -> None:
    check_trace(Trace(IMAGES, (harmless,)))


@pytest.mark.parametrize(
    ("trace", "says"),
    [
        (
            Trace((), ({"execute": "query-jobs"}, {"execute": "migrate"})),
            (
                "step 2: migrate: this command is not one that a trace may use: "
                "`reopencheck rules --allowed` lists them"
            ),
        ),
        (
            Trace((), (add(driver="raw", file={"driver": "nbd"}),)),
            (
                "step 1: blockdev-add: file.driver: driver 'nbd' is not among those that are "
                "allowed: `reopencheck rules --allowed` lists them"
            ),
        ),
        (
            Trace((), (command("blockdev-reopen", options=[{}, {"filename": "/x"}]),)),
            (
                "step 1: blockdev-reopen: options[1].filename: the file name '/x' may lead out of "
                "the scratch directory: use letters, digits, '_', '.', '+' and '-', at most 200"
            ),
        ),
        (
            Trace((), (add(driver="null-co", latency_ns=10**9),)),
            "step 1: blockdev-add: latency-ns: 1000000000 is too much: use 1000000 or less",
        ),
        (
            Trace((ImageSpec("x", "vmdk", 1),), ()),
            "image 'x': the format 'vmdk' is not one of qcow2, raw",
        ),
        (
            Trace((), (command("reopencheck-object", qom_type="iothread", id="type"),)),
            (
                "step 1: reopencheck-object: no daemon starts with an object that is called "
                "'type': rename it"
            ),
        ),
        (
            Trace(
                tuple(
                    ImageSpec(f"hd{at}", "qcow2", (1 << 50) - at, data=((0, 1, 1),))
                    for at in range(100)
                ),
                (),
            ),
            (
                "making the images is 2401 units of work, and 1500 are granted: "
                "use fewer or smaller ones, or less data"
            ),
        ),
    ],
)
def test_what_is_said(trace: Trace, says: str) -> None:
    with pytest.raises(ContainmentError) as caught:
        check_trace(trace)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    "images",
    [
        [ImageSpec(f"hd{at}", "qcow2", 1 << 30, data=((0, 1 << 19, 1),)) for at in range(100)],
        [ImageSpec("hd", "qcow2", 1 << 40, data=tuple((at << 30, 512, 1) for at in range(1000)))],
        [ImageSpec(f"hd{at}", "qcow2", 1 << 50) for at in range(50)],
    ],
    ids=["data", "runs", "tables"],
)
def test_images_that_take_seconds_pass(images: list[ImageSpec]) -> None:
    check_trace(Trace(tuple(images), ()))
