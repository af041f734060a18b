# SPDX-License-Identifier: GPL-2.0-or-later
"""Huge sizes: what is answered whatever the size, what is left, and what is no size at all."""

from __future__ import annotations

from typing import Any

import pytest

from model import ImageError, Monitor
from model.graph.sizes import MOST_MEMORY, MOST_WORK
from model.values.image_layout import MAX_LENGTH, UNKNOWN, clip, overlay

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CLUSTER = 64 * KIB
LEFT = {"limit/work"}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor("qemu-7.2")


def run(monitor: Monitor, execute: str, **arguments: Any) -> Any:
    """The return value of a command, None if it is refused."""
    dashed = {key.replace("_", "-"): value for key, value in arguments.items()}
    return monitor.execute({"execute": execute, "arguments": dashed}).get("return")


def left(monitor: Monitor) -> set[str]:
    """What the last command led out of the spec for."""
    assert monitor.outcome is not None
    return set(monitor.outcome.unmodelled)


def add(monitor: Monitor, node: str, kind: str, size: int = TIB, backing: str = "") -> None:
    """Open a node of a kind over a new image of its own, if it has one."""
    options: dict[str, Any] = {"driver": kind, "node_name": node}
    if kind == "null-co":
        options |= {"size": size, "read_zeroes": True}
    else:
        below: dict[str, Any] = {"backing": f"{backing}.qcow2", "backing_format": "qcow2"}
        below = below if backing else {}
        monitor.images.create(f"{node}.{kind}", format=kind, size=size, **below)
        options["file"] = {"driver": "file", "filename": f"{node}.{kind}"}
        if backing:
            options["backing"] = backing
    assert run(monitor, "blockdev-add", **options) == {}


def chain(monitor: Monitor) -> None:
    add(monitor, "a", "qcow2")
    add(monitor, "b", "qcow2", backing="a")
    add(monitor, "c", "qcow2", backing="b")


JOB = {"job_id": "j0", "device": "c"}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("block-commit", {"top_node": "b", "base_node": "a"}),
        ("block-commit", {"base_node": "a"}),
        ("block-stream", {}),
        ("block-stream", {"base_node": "a"}),
    ],
)
@pytest.mark.parametrize("place", [0, TIB // 2, TIB - CLUSTER])
def test_a_chain_of_a_tebibyte_is_gone_through(
    monitor: Monitor, command: str, arguments: dict[str, Any], place: int
) -> None:
    """Parts in which nothing is allocated cost nothing, and what lies between them is copied."""
    chain(monitor)
    monitor.write("b", place, CLUSTER, 7)
    assert run(monitor, command, **JOB, **arguments) == {}
    if not ("top_node" in arguments or command == "block-stream"):
        assert run(monitor, "block-job-complete", device="j0") == {}
    assert not monitor.state.jobs
    copied = "c" if command == "block-stream" else "a"
    assert (place, place + CLUSTER, 7) in monitor.images[f"{copied}.qcow2"].extents


def test_progress_is_that_of_the_whole_image(monitor: Monitor) -> None:
    chain(monitor)
    assert run(monitor, "block-stream", **JOB, auto_dismiss=False) == {}
    (job,) = run(monitor, "query-jobs")
    assert (job["current-progress"], job["total-progress"]) == (TIB, TIB)


@pytest.mark.parametrize(
    ("source", "target", "command", "arguments"),
    [
        ("qcow2", "raw", "blockdev-backup", {"sync": "full"}),
        ("raw", "qcow2", "blockdev-backup", {"sync": "full"}),
        ("null-co", "null-co", "blockdev-backup", {"sync": "full"}),
        ("raw", "qcow2", "blockdev-mirror", {"sync": "full"}),
        ("raw", "qcow2", "blockdev-mirror", {"sync": "full", "granularity": 512, "buf_size": 1}),
        ("null-co", "raw", "blockdev-mirror", {"sync": "full", "buf_size": 1}),
    ],
)
def test_jobs_that_copy_too_many_pieces_leave_the_spec(
    monitor: Monitor, source: str, target: str, command: str, arguments: dict[str, Any]
) -> None:
    add(monitor, "c", source)
    add(monitor, "d", target)
    before = monitor.state
    assert run(monitor, command, **JOB, target="d", **arguments) is None
    assert left(monitor) == LEFT
    assert monitor.state is before


def test_small_pieces_leave_the_spec_on_a_smaller_image_too(monitor: Monitor) -> None:
    add(monitor, "c", "raw", 128 * MIB)
    monitor.write("c", 0, 128 * MIB, 1)
    add(monitor, "d", "raw", 128 * MIB)
    mirror = {**JOB, "target": "d", "sync": "full", "granularity": 512, "buf_size": 512}
    assert run(monitor, "blockdev-mirror", **mirror) is None
    assert left(monitor) == LEFT


def test_one_request_writes_zeroes_of_any_length(monitor: Monitor) -> None:
    add(monitor, "a", "qcow2")
    monitor.write("a", 3 * CLUSTER, 2 * CLUSTER, 9)
    detecting = {"driver": "raw", "node_name": "z", "file": "a", "detect_zeroes": "on"}
    assert run(monitor, "blockdev-add", **detecting) == {}
    monitor.write("z", 512, TIB - 512, 0)
    image = monitor.images["a.qcow2"]
    assert image.extents == ((0, TIB, 0),)
    assert set(image.l2_tables) == set(range(TIB // (512 * MIB)))
    assert monitor.read("a", 3 * CLUSTER, 512) == bytes(512)


@pytest.mark.parametrize("kind", ["raw", "null-co"])
def test_a_tebibyte_is_written_in_one_go_where_no_clusters_are(monitor: Monitor, kind: str) -> None:
    add(monitor, "a", kind)
    monitor.write("a", 0, TIB, 5)
    assert monitor.read("a", TIB - 4, 4) == bytes([5 if kind == "raw" else 0] * 4)


def test_writing_a_tebibyte_of_clusters_is_refused_at_once(monitor: Monitor) -> None:
    add(monitor, "a", "qcow2")
    with pytest.raises(ImageError, match="reopencheck: a command that works on so many pieces"):
        monitor.write("a", 0, TIB, 5)
    monitor.images.create("b.qcow2", format="qcow2", size=TIB)
    with pytest.raises(ImageError, match="so many pieces"):
        monitor.images.write("b.qcow2", 0, TIB, 5)


@pytest.mark.parametrize("most", [MOST_WORK, 10])
def test_a_guest_writes_as_much_as_the_limit_lets_through(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The limit is what refuses: with a lower one the same command leaves the spec."""
    add(monitor, "a", "qcow2")
    monkeypatch.setattr("model.graph.sizes.MOST_WORK", most)
    wrote = run(monitor, "reopencheck-write", node="a", offset=0, length=64 * MIB, pattern=1)
    assert (wrote, left(monitor)) == (({}, set()) if most > 10 else (None, LEFT))


def test_four_gibibytes_of_requests_leave_the_spec(monitor: Monitor) -> None:
    add(monitor, "a", "qcow2")
    run(monitor, "reopencheck-write", node="a", offset=0, length=4 * GIB, pattern=1)
    assert left(monitor) == LEFT


def test_a_quorum_does_not_vote_on_a_tebibyte_sector_by_sector(monitor: Monitor) -> None:
    add(monitor, "z", "null-co")
    small = {"driver": "blkdebug", "node_name": "g", "image": "z", "max_transfer": 512}
    assert run(monitor, "blockdev-add", **small) == {}
    quorum = {"driver": "quorum", "node_name": "q", "vote_threshold": 1, "children": ["g"]}
    assert run(monitor, "blockdev-add", **quorum) == {}
    with pytest.raises(ImageError, match="so many pieces"):
        monitor.read("q", 0, 256 * MIB)


# Memory


@pytest.mark.parametrize(("buffer", "more"), [(MOST_MEMORY, False), (MOST_MEMORY + 1, True)])
@pytest.mark.parametrize("sync", ["none", "full"])
def test_a_mirror_may_not_have_the_memory_for_its_buffer(
    monitor: Monitor, buffer: int, sync: str, *, more: bool
) -> None:
    """Seen on 5.2, 7.2, 10.0 and 11.1: 16 GiB are refused by the host, 1 GiB are not."""
    add(monitor, "c", "null-co", MIB)
    add(monitor, "d", "null-co", MIB)
    done = run(monitor, "blockdev-mirror", **JOB, target="d", sync=sync, buf_size=buffer)
    assert (done, left(monitor)) == ((None, {"limit/memory"}) if more else ({}, set()))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"refcount_cache_size": GIB - CLUSTER}, set()),
        ({"refcount_cache_size": 2 * GIB}, {"limit/memory"}),
        ({"cache_size": 2 * GIB}, {"limit/memory"}),
        ({"refcount_cache_size": TIB, "cache_clean_interval": 1 << 32}, {"limit/memory"}),
        ({"refcount_cache_size": 1 << 48, "cache_clean_interval": 1 << 32}, set()),
        ({"l2_cache_size": TIB}, set()),
    ],
)
def test_an_image_may_not_have_the_memory_for_its_caches(
    monitor: Monitor, options: dict[str, int], said: set[str]
) -> None:
    """Seen on every release: "Could not allocate metadata caches" comes before the interval."""
    monitor.images.create("a.qcow2", format="qcow2", size=MIB)
    file = {"driver": "file", "filename": "a.qcow2"}
    run(monitor, "blockdev-add", driver="qcow2", node_name="a", file=file, **options)
    assert left(monitor) == said


def test_nobody_has_the_memory_for_every_bitmap(monitor: Monitor) -> None:
    add(monitor, "c", "null-co", 1 << 60)
    add(monitor, "d", "null-co", 1 << 60)
    run(monitor, "blockdev-mirror", **JOB, target="d", sync="none", granularity=512)
    assert left(monitor) == {"limit/memory"}


# Images


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 10**400}, "a qcow2 image has at most 2251799813685248 bytes"),
        ({"size": (1 << 51) + 1}, "a qcow2 image has at most 2251799813685248 bytes: 22517998"),
        ({"size": "9999999999999999T"}, "a qcow2 image has at most"),
        ({"format": "raw", "size": MAX_LENGTH + 1}, "a raw image has at most"),
        ({"size": -1}, "a size is not negative: -1"),
        ({"size": 1.5}, "not a size: 1.5"),
        ({"size": True}, "not a size: True"),
        ({"name": "sub/a.qcow2"}, "not the name of an image file: 'sub/a.qcow2'"),
        ({"name": ".."}, "not the name of an image file: '..'"),
        ({"name": ""}, "not the name of an image file: ''"),
        ({"name": "nbd:x"}, "not the name of an image file: 'nbd:x'"),
        ({"name": "a\n"}, "not the name of an image file: 'a\\\\n'"),
        ({"name": "x" * 256}, "not the name of an image file: 'xxx"),
        ({"name": 5}, "a name is a text, not 5"),
        ({"format": "vdi"}, "no format is called 'vdi'; there are: qcow2, raw"),
        ({"format": None}, "a format is a text, not None"),
        ({"backing": 7}, "a backing file is a text, not 7"),
        ({"size": None}, "the size of 'a.qcow2' is not given"),
        ({"name": "used.raw", "format": "raw"}, "'used.raw' is in use: node 'n0' has it open"),
    ],
)
def test_images_that_cannot_be_made(monitor: Monitor, given: dict[str, Any], said: str) -> None:
    monitor.images.create("used.raw", format="raw", size=MIB)
    file = {"driver": "file", "node_name": "n0", "filename": "used.raw"}
    assert run(monitor, "blockdev-add", **file) == {}
    before = monitor.state
    arguments: dict[str, Any] = {"name": "a.qcow2", "format": "qcow2", "size": MIB} | given
    with pytest.raises(ImageError, match=said) as refused:
        monitor.images.create(**arguments)
    assert len(str(refused.value)) < 300
    assert monitor.state is before


def test_an_image_that_nobody_uses_is_made_anew(monitor: Monitor) -> None:
    for size in (1 << 51, MIB):
        monitor.images.create("a.qcow2", format="qcow2", size=size)
        assert monitor.images["a.qcow2"].size == size


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"offset": -1}, "an offset is not negative: -1"),
        ({"offset": 10**5000}, "do not lie within 'a.raw' of 1048576 bytes"),
        (
            {"offset": MIB - 511},
            "512 bytes from 1048065 do not lie within 'a.raw' of 1048576 bytes",
        ),
        ({"length": 0}, "a length is at least 1: 0"),
        ({"length": -5}, "a length is at least 1: -5"),
        ({"length": 1 << 70}, "do not lie within"),
        ({"pattern": 256}, "a pattern is a byte, 0 to 255: 256"),
        ({"pattern": -1}, "a pattern is a byte, 0 to 255: -1"),
        ({"pattern": "1"}, "the pattern is a whole number, not '1'"),
        ({"offset": 1.0}, "the offset is a whole number, not 1.0"),
        ({"length": True}, "the length is a whole number, not True"),
        ({"name": None}, "a name is a text, not None"),
        ({"name": "b.raw"}, "no image file is called 'b.raw'"),
        ({"name": "used.raw"}, "'used.raw' is in use: node 'n0' has it open"),
    ],
)
def test_bytes_that_cannot_be_written(monitor: Monitor, given: dict[str, Any], said: str) -> None:
    for name in ("a.raw", "used.raw"):
        monitor.images.create(name, format="raw", size=MIB)
    file = {"driver": "file", "node_name": "n0", "filename": "used.raw"}
    assert run(monitor, "blockdev-add", **file) == {}
    before = monitor.state
    arguments: dict[str, Any] = {"name": "a.raw", "offset": 0, "length": 512, "pattern": 1} | given
    with pytest.raises(ImageError, match=said):
        monitor.images.write(**arguments)
    assert monitor.state is before


# Bytes that nobody knows


def copied(monitor: Monitor, **target: Any) -> Any:
    """Back a null node up that need not read as zeroes."""
    assert run(monitor, "blockdev-add", driver="null-co", node_name="c", size=MIB) == {}
    monitor.images.create("d.raw", format="raw", size=MIB)
    file = {"driver": "file", "filename": "d.raw"}
    assert run(monitor, "blockdev-add", driver="raw", node_name="d", file=file, **target) == {}
    assert run(monitor, "blockdev-backup", **JOB, target="d", sync="full") == {}
    assert monitor.outcome is not None
    return set(monitor.outcome.hazards)


def test_what_nobody_knows_is_not_known_in_a_copy_either(monitor: Monitor) -> None:
    assert copied(monitor) == set()
    assert monitor.images["d.raw"].extents == ((0, MIB, UNKNOWN),)
    with pytest.raises(ImageError, match="nobody knows what node 'd' reads as"):
        monitor.read("d", 512, 512)
    assert run(monitor, "reopencheck-read", node="d") is None
    assert left(monitor) == {"guest.impossible"}


def test_what_is_written_over_it_is_known(monitor: Monitor) -> None:
    copied(monitor)
    monitor.write("d", 512, 512, 3)
    assert monitor.read("d", 512, 512) == bytes([3] * 512)


def test_whether_it_is_zero_is_luck(monitor: Monitor) -> None:
    assert copied(monitor, detect_zeroes="on") == {"hazard.unknown-bytes"}


def test_whether_two_children_agree_on_it_is_luck(monitor: Monitor) -> None:
    copied(monitor)
    for threshold, children in ((1, ["d"]), (2, ["c", "d"])):
        quorum = {"driver": "quorum", "node_name": f"q{threshold}", "children": children}
        assert run(monitor, "blockdev-add", vote_threshold=threshold, **quorum) == {}
    add(monitor, "e", "raw", MIB)
    backup = {"job_id": "j1", "target": "e", "sync": "full"}
    for threshold, met in ((1, set()), (2, {"hazard.unknown-bytes"})):
        assert run(monitor, "blockdev-backup", device=f"q{threshold}", **backup) == {}
        assert monitor.outcome is not None
        assert set(monitor.outcome.hazards) == met


# Runs of bytes


def test_runs_that_lie_side_by_side_are_one() -> None:
    runs = overlay(((0, 4, 1), (8, 12, 1), (16, 20, 2)), 4, 8, 1)
    assert runs == ((0, 12, 1), (16, 20, 2))
    assert overlay(runs, 2, 18, 3) == ((0, 2, 1), (2, 18, 3), (18, 20, 2))
    assert overlay(runs, 5, 5, 9) == runs


def test_runs_are_clipped_at_both_ends() -> None:
    runs = ((0, 12, 1), (16, 20, 2))
    assert clip(runs, 4, 17) == [(4, 12, 1), (16, 17, 2)]
    assert clip(runs, 12, 16) == []
