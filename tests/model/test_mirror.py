# SPDX-License-Identifier: GPL-2.0-or-later
"""Mirrors, active commits and backups where no daemon is needed to know what to expect."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.graph import dirty_bitmaps
from model.values.image_layout import punched
from model.values.trace import ImageSpec

CLUSTER = 65536
MIB = 1 << 20


def do(monitor: Monitor, execute: str, **arguments: Any) -> dict[str, Any]:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return monitor.execute({"execute": execute, "arguments": named})


def add(monitor: Monitor, driver: str, name: str, **options: Any) -> None:
    assert do(monitor, "blockdev-add", driver=driver, node_name=name, **options) == {"return": {}}


def job(monitor: Monitor) -> dict[str, Any]:
    (only,) = do(monitor, "query-block-jobs")["return"]
    found: dict[str, Any] = only
    return found


def hazards(monitor: Monitor) -> frozenset[str]:
    assert monitor.outcome is not None
    return monitor.outcome.hazards


@pytest.fixture
def chain() -> Monitor:
    """Two images, b over a, and t and u by themselves."""
    monitor = Monitor("qemu-7.2")
    specs = (
        ImageSpec("a.qcow2", "qcow2", MIB, data=((0, MIB, 1),)),
        ImageSpec("b.qcow2", "qcow2", MIB, "a.qcow2", "qcow2", data=((CLUSTER, CLUSTER, 2),)),
        ImageSpec("t.qcow2", "qcow2", MIB),
        ImageSpec("u.qcow2", "qcow2", MIB),
    )
    for spec in specs:
        monitor.images.from_spec(spec)
        name = spec.name[0]
        file = {"driver": "file", "filename": spec.name, "node-name": f"{name}f"}
        below = {"backing": "a"} if spec.backing else {}
        add(monitor, "qcow2", name, file=file, **below)
    return monitor


def mirror(monitor: Monitor, **more: Any) -> dict[str, Any]:
    arguments = {"job_id": "j", "device": "b", "target": "t", "sync": "full", **more}
    return do(monitor, "blockdev-mirror", **arguments)


def backup(monitor: Monitor, **more: Any) -> dict[str, Any]:
    arguments = {"job_id": "j", "device": "b", "target": "t", "sync": "none", **more}
    return do(monitor, "blockdev-backup", **arguments)


@pytest.mark.parametrize("sync", ["full", "top", "none"])
def test_a_mirror_copies_what_it_is_told_to(chain: Monitor, sync: str) -> None:
    expected = bytearray(MIB)
    if sync == "full":
        expected[:] = chain.read("b", 0, MIB)
    elif sync == "top":
        expected[CLUSTER : 2 * CLUSTER] = b"\2" * CLUSTER
    mirror(chain, sync=sync, filter_node_name="flt")
    assert job(chain)["status"] == "ready"
    chain.write("flt", 7 * CLUSTER, CLUSTER, 9)
    expected[7 * CLUSTER : 8 * CLUSTER] = b"\x09" * CLUSTER
    assert chain.read("t", 0, MIB) == bytes(expected)


def test_a_mirror_puts_its_target_in_the_place_of_its_source(chain: Monitor) -> None:
    mirror(chain, filter_node_name="flt")
    add(chain, "raw", "top", file="flt")
    do(chain, "job-complete", id="j")
    assert chain.state.nodes["top"].children[0].child == "t"
    assert "flt" not in chain.state.nodes
    assert not chain.state.nodes["b"].bitmaps


def test_an_active_commit_leaves_its_base_writable_when_it_is_cancelled(chain: Monitor) -> None:
    do(
        chain,
        "blockdev-reopen",
        options=[{"driver": "qcow2", "node-name": "a", "file": "af", "read-only": True}],
    )
    assert do(chain, "block-commit", job_id="j", device="b") == {"return": {}}
    assert do(chain, "job-cancel", id="j") == {"return": {}}
    assert not chain.state.nodes["a"].read_only
    assert not any(link.frozen for link in chain.state.links())


def test_writes_pile_up_while_a_mirror_is_paused(chain: Monitor) -> None:
    mirror(chain, filter_node_name="flt")
    done = job(chain)["offset"]
    do(chain, "job-pause", id="j")
    chain.write("flt", 0, 1, 9)
    assert dirty_bitmaps.count(chain.state.nodes["b"].bitmaps[0].dirty) == CLUSTER
    assert job(chain)["offset"] == done
    do(chain, "job-resume", id="j")
    assert chain.outcome is not None
    assert chain.outcome.settling["j"] == ("ready", done + CLUSTER)
    assert job(chain)["offset"] == done + CLUSTER


def test_a_backup_keeps_what_was_there(chain: Monitor) -> None:
    before = chain.read("b", 0, 2 * CLUSTER)
    backup(chain, filter_node_name="flt")
    chain.write("flt", CLUSTER + 5, 10, 9)
    assert chain.read("t", 0, 2 * CLUSTER) == bytes(CLUSTER) + before[CLUSTER:]
    assert job(chain)["offset"] == CLUSTER
    assert do(chain, "job-cancel", id="j") == {"return": {}}
    assert "flt" not in chain.state.nodes


def test_a_job_waits_above_what_another_one_has_drained(chain: Monitor) -> None:
    mirror(chain, filter_node_name="flt", auto_finalize=False)
    add(chain, "raw", "top", file="flt")
    do(chain, "block-job-cancel", device="j")
    mirror(chain, job_id="k", device="top", target="u")
    statuses = {each["id"]: each["status"] for each in do(chain, "query-jobs")["return"]}
    assert statuses == {"j": "pending", "k": "paused"}
    do(chain, "job-finalize", id="j")
    assert job(chain)["status"] == "ready"


def test_a_refused_job_leaves_nothing_behind(chain: Monitor) -> None:
    before = chain.state
    for wrong in ({"speed": -1}, {"job_id": "1"}, {"target": "af"}, {"target": "b"}):
        assert "error" in mirror(chain, **wrong)
        assert "error" in backup(chain, **wrong)
        assert chain.state.nodes == before.nodes
        assert not chain.state.jobs
        assert not chain.state.users


# Where the release comes to grief


def test_completing_twice_is_a_defect(chain: Monitor) -> None:
    add(chain, "quorum", "q", vote_threshold=1, children=["t", "u"])
    mirror(chain, device="q", target="b", replaces="t")
    do(chain, "job-pause", id="j")
    do(chain, "job-complete", id="j")
    assert not hazards(chain)
    do(chain, "job-complete", id="j")
    assert hazards(chain) == {"hazard.mirror-completed-twice"}


def test_a_filter_that_cannot_go_is_a_defect(chain: Monitor) -> None:
    backup(chain, filter_node_name="flt")
    add(chain, "copy-on-read", "c", file="flt", bottom="a")
    do(chain, "job-cancel", id="j")
    assert hazards(chain) == {"hazard.filter-stuck"}


def test_a_node_that_goes_with_its_bitmap_is_a_defect(chain: Monitor) -> None:
    backup(chain, filter_node_name="flt")
    do(chain, "blockdev-snapshot", node="b", overlay="u")
    do(
        chain,
        "blockdev-reopen",
        options=[{"driver": "qcow2", "node-name": "u", "file": "uf", "backing": None}],
    )
    do(chain, "blockdev-del", node_name="b")
    assert hazards(chain) == {"hazard.bitmap-lost"}


@pytest.mark.parametrize("command", [mirror, backup])
def test_a_filter_that_is_longer_than_its_node_is_a_defect(chain: Monitor, command: Any) -> None:
    do(chain, "object-add", qom_type="throttle-group", id="g")
    add(chain, "throttle", "f", file="t", throttle_group="g")
    do(chain, "block_resize", node_name="t", size=CLUSTER)
    command(chain, device="f", target="u", sync="top")
    assert hazards(chain) == {"hazard.job-beyond-end"}


def test_the_inside_of_an_image_is_nobody_s_business(chain: Monitor) -> None:
    chain.images.create("x.raw", format="raw", size=chain.state.nodes["tf"].size)
    add(chain, "file", "x", filename="x.raw")
    backup(chain, device="tf", target="x")
    assert hazards(chain) == {"hazard.unknown-bytes"}


@pytest.mark.parametrize("copying", [True, False])
def test_what_a_job_reads_through_a_copy_on_read_filter_lies_in_any_order(
    chain: Monitor, *, copying: bool
) -> None:
    """Seen on 10.0: the file of a shrunk image was once 851968 bytes long and once 1114112."""
    add(chain, "copy-on-read" if copying else "raw", "c", file="b")
    assert mirror(chain, device="c") == {"return": {}}
    assert do(chain, "block-job-cancel", device="j") == {"return": {}}
    assert do(chain, "blockdev-del", node_name="c") == {"return": {}}
    assert do(chain, "block_resize", node_name="b", size=MIB // 2) == {"return": {}}
    assert hazards(chain) == ({"hazard.copies-race"} if copying else set())


# Ranges


def test_ranges_are_joined_and_cut() -> None:
    dirty = dirty_bitmaps.joined(dirty_bitmaps.joined((), 10, 20), 30, 40)
    assert dirty_bitmaps.joined(dirty, 20, 30) == ((10, 40),)
    assert dirty_bitmaps.joined(dirty, 5, 5) == dirty
    assert dirty_bitmaps.without(dirty, 15, 35) == ((10, 15), (35, 40))
    assert dirty_bitmaps.within(dirty, 15, 35) == ((15, 20), (30, 35))
    assert dirty_bitmaps.count(dirty) == 20
    assert dirty_bitmaps.whole(100, 64) == ((0, 128),)
    assert dirty_bitmaps.whole(0, 64) == ()


def test_zeroes_make_holes_of_whole_blocks() -> None:
    data = ((0, 12288, 7),)
    assert punched(data, 100, 9000) == (
        (0, 100, 7),
        (100, 4096, 0),
        (8192, 9000, 0),
        (9000, 12288, 7),
    )
    assert punched((), 100, 9000) == ()
    assert punched(((0, 10, 7),), 4096, 9000) == ((0, 10, 7),)
