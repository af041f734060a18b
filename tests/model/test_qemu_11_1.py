# SPDX-License-Identifier: GPL-2.0-or-later
"""What 11.1 shows of a node, and what it does otherwise than 10.0."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.values.private import Bottom
from model.values.state import NO_LIMITS

MIB = 1 << 20
ZEROES = {"driver": "null-co", "read-zeroes": True, "size": MIB}
PLAIN = {"request-alignment": 1, "min-mem-alignment": 512, "opt-mem-alignment": 4096}
PLAIN["max-iov"] = 1024
DEBUG = {"align": 4096, "max-transfer": 8192, "opt-write-zero": 4096, "max-write-zero": 20480}
DEBUG |= {"opt-discard": 8192, "max-discard": 16384}


@pytest.fixture
def monitor() -> Monitor:
    return Monitor("qemu-11.1")


@pytest.fixture
def before() -> Monitor:
    return Monitor("qemu-10.0")


def run(monitor: Monitor, command: str, **arguments: Any) -> Any:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": command, "arguments": named})
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def add(monitor: Monitor, name: str, **options: Any) -> None:
    assert run(monitor, "blockdev-add", node_name=name, **options) == {}


def reopen(monitor: Monitor, *options: dict[str, Any]) -> Any:
    return run(monitor, "blockdev-reopen", options=list(options))


def nodes(monitor: Monitor) -> dict[str, dict[str, Any]]:
    shown = run(monitor, "query-named-block-nodes", flat=True)
    return {each["node-name"]: each for each in shown}


def limits(monitor: Monitor, name: str) -> dict[str, int]:
    found: dict[str, int] = nodes(monitor)[name]["image"]["limits"]
    return found


def image(monitor: Monitor, name: str, *written: tuple[int, int, int]) -> dict[str, Any]:
    monitor.images.create(name, format=name.rpartition(".")[2], size=MIB)
    for offset, length, pattern in written:
        monitor.images.write(name, offset, length, pattern)
    return {"driver": "file", "filename": name}


def hazards(monitor: Monitor) -> frozenset[str]:
    assert monitor.outcome is not None
    return monitor.outcome.hazards


# Texts


def test_a_configuration_file_that_is_missing(monitor: Monitor) -> None:
    debug = {"driver": "blkdebug", "image": ZEROES, "config": "a.conf"}
    said = run(monitor, "blockdev-add", node_name="n0", **debug)
    assert said == "Could not open 'a.conf': No such file or directory"


def test_a_throttle_group_with_members(monitor: Monitor) -> None:
    assert run(monitor, "object-add", qom_type="throttle-group", id="tg0") == {}
    add(monitor, "n0", driver="throttle", throttle_group="tg0", file=ZEROES)
    said = run(monitor, "object-del", id="tg0")
    assert said == "Cannot delete throttle group 'tg0' with active references"


# Queries


def test_children_are_listed_newest_first(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", driver="blkverify", raw="n0", test=ZEROES | {"node-name": "n2"})
    found = [(each["child"], each["node-name"]) for each in nodes(monitor)["n1"]["children"]]
    assert found == [("test", "n2"), ("raw", "n0")]
    assert nodes(monitor)["n0"]["children"] == []


def test_10_0_shows_neither_children_nor_limits(before: Monitor) -> None:
    add(before, "n0", driver="qcow2", file=image(before, "hd0.qcow2"), backing=ZEROES)
    assert "children" not in nodes(before)["n0"]
    assert "limits" not in nodes(before)["n0"]["image"]
    assert {node.limits for node in before.state.nodes.values()} == {NO_LIMITS}


def test_limits_come_from_the_children(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", driver="blkdebug", image="n0", **DEBUG)
    add(monitor, "n2", driver="raw", file="n1")
    own = {"write-zeroes-alignment": 4096, "max-write-zeroes": 20480, "max-discard": 16384}
    merged = {"discard-alignment": 8192, "max-transfer": 8192}
    assert limits(monitor, "n0") == PLAIN
    assert limits(monitor, "n1") == PLAIN | own | merged | {"request-alignment": 4096}
    assert limits(monitor, "n2") == PLAIN | merged


def test_qcow2_goes_by_clusters(monitor: Monitor) -> None:
    add(monitor, "n0", driver="qcow2", file=image(monitor, "hd0.qcow2"))
    whole = {"discard-alignment": 65536, "write-zeroes-alignment": 65536, "min-mem-alignment": 1}
    assert limits(monitor, "n0") == PLAIN | whole


def test_a_reopen_takes_the_limits_of_the_new_child(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", driver="blkdebug", image=ZEROES, **DEBUG)
    add(monitor, "n2", driver="raw", file="n0")
    before = monitor.state
    options = {"driver": "raw", "node-name": "n2"}
    assert reopen(monitor, options | {"file": "n1"}) == {}
    assert limits(monitor, "n2")["max-transfer"] == 8192
    assert reopen(monitor, options | {"file": "n0"}) == {}
    assert monitor.state.nodes["n2"].limits == before.nodes["n2"].limits


def test_a_refused_reopen_leaves_the_limits(monitor: Monitor) -> None:
    add(monitor, "n0", **ZEROES)
    add(monitor, "n1", driver="blkdebug", image=ZEROES, **DEBUG)
    add(monitor, "n2", driver="raw", file="n0")
    before = monitor.state
    refused = {"driver": "null-co", "node-name": "n0", "size": 512}
    assert reopen(monitor, {"driver": "raw", "node-name": "n2", "file": "n1"}, refused) != {}
    assert monitor.state is before


def test_what_changes_below_does_not_show(monitor: Monitor) -> None:
    """A node remembers its limits; only its own reopen works them out anew."""
    add(monitor, "n0", driver="raw", file=image(monitor, "hd0.raw") | {"node-name": "f0"})
    direct = image(monitor, "hd1.raw") | {"node-name": "f0", "filename": "hd0.raw"}
    assert reopen(monitor, direct | {"cache": {"direct": True}}) == {}
    assert limits(monitor, "f0")["min-mem-alignment"] == 512
    assert limits(monitor, "n0")["min-mem-alignment"] == 1
    assert reopen(monitor, {"driver": "raw", "node-name": "n0", "file": "f0"}) == {}
    assert limits(monitor, "n0")["min-mem-alignment"] == 512


# Lengths


def test_filters_hear_of_a_new_length(monitor: Monitor) -> None:
    add(monitor, "n0", **image(monitor, "hd0.raw"))
    add(monitor, "n1", driver="copy-on-read", file="n0")
    add(monitor, "n2", driver="raw", file="n1")
    add(monitor, "n3", driver="copy-before-write", file="n0", target=ZEROES)
    assert run(monitor, "block_resize", node_name="n0", size=512) == {}
    lengths = {name: monitor.state.nodes[name].size for name in ("n1", "n2", "n3")}
    assert lengths == {"n1": 512, "n2": 512, "n3": MIB}


def test_who_keeps_its_length_tells_the_filters_above_all_the_same(monitor: Monitor) -> None:
    add(monitor, "n0", **image(monitor, "hd0.raw"))
    add(monitor, "n1", driver="raw", file="n0")
    add(monitor, "n2", driver="copy-on-read", file="n1")
    assert reopen(monitor, {"driver": "raw", "node-name": "n1", "file": "n0", "size": 512}) == {}
    assert monitor.state.nodes["n2"].size == MIB
    assert run(monitor, "block_resize", node_name="n0", size=2 * MIB) == {}
    assert [monitor.state.nodes[name].size for name in ("n1", "n2")] == [512, 512]


def test_filters_hear_of_a_write_behind_the_end(monitor: Monitor) -> None:
    add(monitor, "n0", driver="qcow2", file=image(monitor, "hd0.qcow2") | {"node-name": "f0"})
    add(monitor, "n1", driver="copy-on-read", file="f0")
    monitor.write("n0", 0, 512, 1)
    assert monitor.state.nodes["n1"].size == monitor.state.nodes["f0"].size > 5 * 65536


# What is remembered


def test_who_asks_for_zeroes_has_no_data_remembered(monitor: Monitor) -> None:
    """A mirror asks if its target is zero, which is a question that nobody else profits from."""
    add(monitor, "n0", **image(monitor, "hd0.raw", (0, 512, 1)))
    add(monitor, "n1", driver="qcow2", file=image(monitor, "hd1.qcow2"), backing="n0")
    assert run(monitor, "block-commit", device="n1", job_id="j0") == {}
    assert monitor.state.nodes["n0"].private.data == (0, 0)


# Mirrors


@pytest.mark.parametrize("size", [0, MIB])
def test_a_mirror_of_nothing_is_synced(monitor: Monitor, size: int) -> None:
    for name in ("n0", "n1"):
        add(monitor, name, **ZEROES | {"size": size})
    names = {"device": "n0", "target": "n1", "job-id": "j0", "sync": "full"}
    assert run(monitor, "blockdev-mirror", **names) == {}
    (job,) = run(monitor, "query-block-jobs")
    assert job["actively-synced"] is (size == 0)


def test_a_mirror_that_becomes_empty_is_not_synced(before: Monitor) -> None:
    add(before, "n0", driver="raw", file=ZEROES | {"node-name": "n1"})
    add(before, "n2", **ZEROES)
    names = {"device": "n0", "target": "n2", "job-id": "j0", "sync": "full"}
    assert run(before, "blockdev-mirror", **names) == {}
    assert run(before, "job-pause", id="j0") == {}
    assert reopen(before, {"driver": "raw", "node-name": "n0", "file": "n1", "size": 0}) == {}
    assert run(before, "job-resume", id="j0") == {}
    (job,) = run(before, "query-block-jobs")
    assert (job["status"], job["actively-synced"]) == ("ready", False)


def mirrored(monitor: Monitor, target: dict[str, Any], **arguments: Any) -> int:
    """How much a mirror of an empty image finds to copy."""
    add(monitor, "n0", driver="qcow2", file=image(monitor, "hd0.qcow2"))
    add(monitor, "n1", **target)
    names = {"device": "n0", "target": "n1", "job-id": "j0", "sync": "full"}
    assert run(monitor, "blockdev-mirror", **names, **arguments) == {}
    (job,) = run(monitor, "query-block-jobs")
    found: int = job["len"]
    return found


@pytest.mark.parametrize(
    ("written", "found"), [(4096, 0), (128 << 10, 0), ((128 << 10) + 4096, MIB)]
)
def test_a_mirror_reads_the_beginning(monitor: Monitor, written: int, found: int) -> None:
    """Up to 128 KiB of zeroes that were written are found to be such."""
    target = image(monitor, "hd1.raw", (0, written, 0))
    assert mirrored(monitor, target) == found


def test_a_mirror_in_10_0_does_not_look(before: Monitor) -> None:
    assert mirrored(before, image(before, "hd1.raw")) == MIB


def test_a_mirror_writes_all_that_is_to_be_unmapped(monitor: Monitor) -> None:
    options = {"discard": "unmap", "detect-zeroes": "unmap"}
    target = {"driver": "qcow2", "file": image(monitor, "hd1.qcow2"), **options}
    assert mirrored(monitor, target) == MIB


def test_a_mirror_believes_that_its_target_is_zero(monitor: Monitor) -> None:
    file = image(monitor, "hd1.qcow2", (0, 65536, 7))
    assert mirrored(monitor, {"driver": "qcow2", "file": file}, target_is_zero=True) == 0
    assert monitor.read("n1", 0, 1) == b"\7"


def test_what_a_null_node_reads_is_luck(monitor: Monitor) -> None:
    small = {"driver": "null-co", "size": 65536}
    add(monitor, "n0", **ZEROES | {"size": 65536})
    add(monitor, "n1", **small)
    run(monitor, "blockdev-mirror", job_id="j0", device="n0", target="n1", sync="full")
    assert "hazard.unknown-bytes" in hazards(monitor)


# Exports


def export(monitor: Monitor, name: str, node: str, **arguments: Any) -> Any:
    return run(monitor, "block-export-add", type="nbd", id=name, node_name=node, **arguments)


@pytest.fixture
def server(monitor: Monitor) -> Monitor:
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    assert run(monitor, "nbd-server-start", addr=address) == {}
    assert run(monitor, "object-add", qom_type="iothread", id="io0") == {}
    add(monitor, "n0", driver="qcow2", file=image(monitor, "hd0.qcow2") | {"node-name": "f0"})
    add(monitor, "n1", **ZEROES)
    return monitor


def test_lists_of_iothreads(server: Monitor) -> None:
    said = export(server, "e0", "n1", iothread=["io0"])
    assert said == "NBD export does not support multi-threading"
    said = export(server, "e0", "n1", iothread=["io0"], fixed_iothread=True)
    assert said == "Cannot use fixed-iothread for a multi-threaded export"
    said = export(server, "e0", "n1", iothread=[])
    assert said == "The set of I/O threads must not be empty"
    assert export(server, "e0", "n1", iothread=["io0", "x"]) == 'iothread "x" not found'


@pytest.mark.parametrize("interval", [600, 0])
@pytest.mark.parametrize("newest", ["n0", "n1"])
def test_exports_that_stop_at_once(server: Monitor, newest: str, interval: int) -> None:
    """The defect needs a node that sweeps in an iothread, and an export to be closed after it."""
    first = "n1" if newest == "n0" else "n0"
    for name in (first, newest):
        thread = {"iothread": "io0"} if name == "n0" else {}
        assert export(server, f"e-{name}", name, **thread) == {}
    options = {"driver": "qcow2", "node-name": "n0", "file": "f0"}
    assert reopen(server, options | {"cache-clean-interval": interval}) == {}
    assert run(server, "nbd-server-stop") == {}
    met = {"hazard.sweep-awaited"} if (newest, interval) == ("n1", 600) else set()
    assert hazards(server) == met


@pytest.mark.parametrize(
    ("children", "met"),
    [
        ((ZEROES, "n0"), True),
        (("n0", ZEROES), False),  # nothing waits yet when the node leaves
        (("n1", "n0"), False),  # the other child does not go
        ((ZEROES, {"driver": "raw", "file": "n0"}), True),
    ],
)
def test_a_child_that_goes_before_a_node_that_sweeps(
    server: Monitor, children: tuple[Any, ...], met: bool
) -> None:
    add(server, "n2", driver="quorum", children=list(children), vote_threshold=1)
    moved = {"node_name": "n0", "iothread": "io0", "force": True}
    assert run(server, "x-blockdev-set-iothread", **moved) == {}
    assert reopen(server, {"driver": "qcow2", "node-name": "n0", "file": "f0"}) == {}
    assert run(server, "blockdev-del", node_name="n2") == {}
    assert hazards(server) == ({"hazard.sweep-awaited"} if met else set())


def test_blkverify_closes_one_image_before_it_lets_go_of_the_other(server: Monitor) -> None:
    add(server, "n2", driver="blkverify", raw="n0", test=ZEROES)
    moved = {"node_name": "n0", "iothread": "io0", "force": True}
    assert run(server, "x-blockdev-set-iothread", **moved) == {}
    assert reopen(server, {"driver": "qcow2", "node-name": "n0", "file": "f0"}) == {}
    assert run(server, "blockdev-del", node_name="n2") == {}
    assert hazards(server) == set()


def test_a_node_that_has_moved_does_not_sweep(server: Monitor) -> None:
    for iothread in ("io0", None, "io0"):
        moved = {"node_name": "n0", "iothread": iothread, "force": True}
        assert run(server, "x-blockdev-set-iothread", **moved) == {}
        if iothread and server.state.nodes["n0"].private.sweeping is False:
            assert reopen(server, {"driver": "qcow2", "node-name": "n0", "file": "f0"}) == {}
            assert server.state.nodes["n0"].private.sweeping
        else:
            assert not server.state.nodes["n0"].private.sweeping


@pytest.mark.parametrize("resumes", [False, True])
def test_a_paused_job_stays_in_its_iothread(server: Monitor, resumes: bool) -> None:
    moved = {"node_name": "n0", "iothread": "io0", "force": True}
    assert run(server, "x-blockdev-set-iothread", **moved) == {}
    assert export(server, "e0", "n0", fixed_iothread=True) == {}
    names = {"device": "n0", "target": "n1", "job_id": "j0", "sync": "none"}
    assert run(server, "blockdev-mirror", **names) == {}
    assert run(server, "job-pause", id="j0") == {}
    assert run(server, "block-export-del", id="e0") == {}
    assert server.state.nodes["n0"].context == ""
    if resumes:
        assert run(server, "job-resume", id="j0") == {}
    run(server, "object-del", id="io0")
    assert hazards(server) == (set() if resumes else {"hazard.iothread-in-use"})


def test_a_backend_does_not_go_to_where_its_node_is(server: Monitor) -> None:
    """The source comes to the main loop with its filter; the target cannot, which is pinned."""
    add(server, "n2", **ZEROES)
    for name, fixed in (("n1", True), ("n2", False)):
        moved = {"node_name": name, "iothread": "io0", "force": True}
        assert run(server, "x-blockdev-set-iothread", **moved) == {}
        assert export(server, f"e-{name}", name, iothread="io0", fixed_iothread=fixed) == {}
    names = {"device": "n2", "target": "n1", "job_id": "j0", "sync": "none"}
    said = run(server, "blockdev-mirror", **names)
    assert said == "Cannot change iothread of active block backend"


# Streams


def test_the_filter_of_an_ended_stream_keeps_its_bottom(monitor: Monitor) -> None:
    add(monitor, "n0", driver="qcow2", file=image(monitor, "hd0.qcow2"))
    job = {"job_id": "j0", "auto_dismiss": False, "filter_node_name": "f0"}
    assert run(monitor, "block-stream", device="n0", **job) == {}
    assert not any(link.frozen for node in monitor.state.nodes.values() for link in node.children)
    assert monitor.state.nodes["f0"].private == Bottom("n0", frozen=False)


# Images that are dirty


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_a_node_that_stays_read_only_cleans_nothing(release: str) -> None:
    monitor = Monitor(f"qemu-{release}")
    file = image(monitor, "hd0.qcow2") | {"locking": "off"}
    add(monitor, "n0", driver="qcow2", file=file, lazy_refcounts=True)
    monitor.write("n0", 0, 512, 1)
    add(monitor, "n1", driver="qcow2", file=file | {"node-name": "f1"}, read_only=True)
    said = reopen(monitor, {"driver": "qcow2", "node-name": "n1", "file": "f1", "read-only": True})
    old = "failed while preparing to reopen image 'hd0.qcow2'"
    assert said == ({} if release == "11.1" else old)
