# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client sees of the spec, with expectations that were recorded from the 7.2 daemon."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from model import ImageError, Monitor
from model.values.image_layout import make
from model.release.rules import NOT_MODELLED
from model.values.state import FrozenDict

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
CLUSTER = 64 * KIB


@pytest.fixture
def monitor() -> Monitor:
    return Monitor("qemu-7.2")


def qmp(monitor: Monitor, execute: str, **arguments: Any) -> Any:
    """The return value of a command that is accepted."""
    reply = monitor.execute(command(execute, **arguments))
    assert "error" not in reply, reply
    return reply["return"]


def error(monitor: Monitor, execute: str, **arguments: Any) -> str:
    """The text of the error of a command that is refused."""
    reply = monitor.execute(command(execute, **arguments))
    assert reply["error"]["class"] == "GenericError"
    return str(reply["error"]["desc"])


def command(execute: str, **arguments: Any) -> dict[str, Any]:
    dashed = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": execute, "arguments": dashed}


def qcow2(name: str, filename: str, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": filename, "node-name": f"{name}-file"}
    return {"driver": "qcow2", "node_name": name, "file": file, **more}


def file_length(monitor: Monitor, name: str) -> int:
    """What the daemon reports as the virtual size of a file node."""
    nodes = qmp(monitor, "query-named-block-nodes", flat=True)
    (length,) = (n["image"]["virtual-size"] for n in nodes if n["node-name"] == name)
    return int(length)


# The monitor


@pytest.mark.parametrize(
    "query", ["query-jobs", "query-block-jobs", "query-block-exports", "query-block"]
)
def test_there_are_no_jobs_exports_or_devices(monitor: Monitor, query: str) -> None:
    assert qmp(monitor, query) == []
    assert error(monitor, query, x=1) == "Parameter 'x' is unexpected"


def test_capabilities_are_negotiated_before_anything_else_only(monitor: Monitor) -> None:
    assert monitor.execute({"execute": "qmp_capabilities", "id": 1}) == {"return": {}, "id": 1}
    assert monitor.execute({"execute": "qmp_capabilities"}) == {
        "error": {
            "class": "CommandNotFound",
            "desc": "Capabilities negotiation is already complete, command ignored",
        }
    }


def test_a_client_that_never_negotiates_is_served(monitor: Monitor) -> None:
    assert qmp(monitor, "query-named-block-nodes") == []
    assert "error" in monitor.execute({"execute": "qmp_capabilities"})


def test_the_release_and_its_commands(monitor: Monitor) -> None:
    version = qmp(monitor, "query-version")
    assert (version["qemu"]["major"], version["qemu"]["minor"]) == (7, 2)
    names = {each["name"] for each in qmp(monitor, "query-commands")}
    assert {"blockdev-reopen", "block-dirty-bitmap-clear", "query-commands"} <= names
    assert "x-blockdev-reopen" not in names


def unmodelled(monitor: Monitor, name: str, **arguments: Any) -> str:
    """The text of an answer in the spec's own voice."""
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": name, "arguments": arguments})
    assert reply["error"]["class"] == NOT_MODELLED
    return str(reply["error"]["desc"])


def test_what_is_not_modelled_says_so(monitor: Monitor) -> None:
    assert unmodelled(monitor, "block-dirty-bitmap-clear", device="x") == (
        "reopencheck: the command block-dirty-bitmap-clear is not modelled"
    )
    assert unmodelled(monitor, "blockdev-add", driver="vdi", node_name="x", file="y") == (
        "reopencheck: the block driver 'vdi' is not modelled"
    )


def test_nodes_beyond_the_limit_are_not_modelled_and_change_nothing(monitor: Monitor) -> None:
    qmp(monitor, "blockdev-add", driver="null-co", node_name="n")
    before = monitor.state
    options: dict[str, Any] = {"driver": "raw", "file": "n"}
    for _ in range(900):
        options = {"driver": "raw", "file": options}
    assert "more than 500 nodes" in unmodelled(monitor, "blockdev-add", node_name="top", **options)
    assert monitor.state is before


def test_a_name_longer_than_a_path_is_cut_off(monitor: Monitor) -> None:
    options: dict[str, Any] = {"driver": "raw", "file": {"driver": "null-co"}}
    for _ in range(200):
        options = {"driver": "raw", "file": options}
    qmp(monitor, "blockdev-add", node_name="top", **options)
    (top,) = (
        n for n in qmp(monitor, "query-named-block-nodes", flat=True) if n["node-name"] == "top"
    )
    assert len(top["file"]) == 4095
    assert top["file"].endswith("...")


# File names


@pytest.mark.parametrize("name", ["hd0.qcow2", "./hd0.qcow2", ".//hd0.qcow2", "x/../hd0.qcow2"])
def test_one_file_has_many_names(monitor: Monitor, name: str) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    qmp(monitor, "blockdev-add", **qcow2("a", name))
    (node,) = (n for n in qmp(monitor, "query-named-block-nodes") if n["node-name"] == "a-file")
    assert node["file"] == name
    other = qcow2("b", "hd0.qcow2")
    assert error(monitor, "blockdev-add", **other) == 'Failed to get "write" lock'


@pytest.mark.parametrize(
    ("backing", "text"),
    [
        ("nosuch:x", "Unknown protocol 'nosuch'"),
        ("json:[1]", "Invalid JSON object given"),
        ("nope.qcow2", "Could not open 'nope.qcow2': No such file or directory"),
    ],
)
def test_backing_names_that_cannot_be_opened(monitor: Monitor, backing: str, text: str) -> None:
    monitor.images.create(
        "hd0.qcow2", format="qcow2", size=MIB, backing=backing, backing_format="qcow2"
    )
    assert error(monitor, "blockdev-add", **qcow2("a", "hd0.qcow2")) == (
        f"Could not open backing file: {text}"
    )
    qmp(monitor, "blockdev-add", **qcow2("a", "hd0.qcow2", backing=None))


def test_a_backing_name_may_be_a_protocol(monitor: Monitor) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    for index, backing in enumerate(("null-co://", "blkdebug::hd0.qcow2")):
        monitor.images.create(
            f"top{index}.qcow2", format="qcow2", size=MIB, backing=backing, backing_format="raw"
        )
        qmp(monitor, "blockdev-add", **qcow2(f"n{index}", f"top{index}.qcow2"))
    assert [n.driver for n in monitor.state.nodes.values()].count("blkdebug") == 1


def test_relative_names_start_where_the_overlay_lies(monitor: Monitor) -> None:
    base = make("sub/hd0.qcow2", format="qcow2", size=MIB)
    overlay = make("sub/hd1.qcow2", format="qcow2", size=MIB, backing="./hd0.qcow2")
    images = FrozenDict({image.name: image for image in (base, overlay)})
    monitor.state = attrs.evolve(monitor.state, images=images)
    qmp(monitor, "blockdev-add", **qcow2("a", "sub/hd1.qcow2"))
    (top,) = (n for n in qmp(monitor, "query-named-block-nodes") if n["node-name"] == "a")
    assert top["backing_file"] == "sub/./hd0.qcow2"


# Frozen links


def test_the_chain_below_a_copy_on_read_filter_thaws_when_it_is_deleted(monitor: Monitor) -> None:
    for index in range(2):
        monitor.images.create(f"hd{index}.qcow2", format="qcow2", size=MIB)
    qmp(monitor, "blockdev-add", **qcow2("hd0", "hd0.qcow2"))
    qmp(monitor, "blockdev-add", **qcow2("hd1", "hd1.qcow2", backing="hd0"))
    qmp(
        monitor,
        "blockdev-add",
        driver="copy-on-read",
        node_name="c",
        file="hd1",
        bottom="hd0",
    )
    alone = qcow2("hd1", "hd1.qcow2", backing=None)
    alone["node-name"] = alone.pop("node_name")
    assert error(monitor, "blockdev-reopen", options=[alone]) == (
        "Cannot change frozen 'backing' link from 'hd1' to 'hd0'"
    )
    qmp(monitor, "blockdev-del", node_name="c")
    qmp(monitor, "blockdev-reopen", options=[alone])


# Sizes


@pytest.mark.parametrize(
    ("sizes", "length"),
    [
        ([0], 4 * CLUSTER),
        ([512], 5 * CLUSTER),
        ([512, 0], 4 * CLUSTER),
        ([512 * MIB], 197_120),
        ([513 * MIB], 4 * CLUSTER + 512),
        ([513 * MIB, MIB], 5 * CLUSTER),
        ([10 * GIB, 0], 5 * CLUSTER),
    ],
)
def test_resizing_qcow2_changes_its_file(monitor: Monitor, sizes: list[int], length: int) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size="2M")
    qmp(monitor, "blockdev-add", **qcow2("a", "hd0.qcow2"))
    for size in sizes:
        qmp(monitor, "block_resize", node_name="a", size=size)
    assert file_length(monitor, "a-file") == length


def test_what_was_cut_off_shows_again_up_to_its_cluster(monitor: Monitor) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    qmp(monitor, "blockdev-add", **qcow2("a", "hd0.qcow2"))
    monitor.write("a", 0, MIB, 5)
    for size in (100 * KIB, MIB):
        qmp(monitor, "block_resize", node_name="a", size=size)
    assert monitor.read("a", 0, MIB) == b"\5" * (128 * KIB) + bytes(MIB - 128 * KIB)
    assert file_length(monitor, "a-file") == 7 * CLUSTER


# What a guest reads and writes


def test_writing_an_image_copies_the_rest_of_a_cluster_from_below(monitor: Monitor) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    monitor.images.create("hd1.qcow2", format="qcow2", size=MIB, backing="hd0.qcow2")
    monitor.images.write("hd0.qcow2", 0, 2 * CLUSTER, 0x11)
    monitor.images.write("hd1.qcow2", CLUSTER, 1024, 0x22)
    qmp(monitor, "blockdev-add", **qcow2("a", "hd1.qcow2"))
    data = monitor.read("a", 0, 3 * CLUSTER)
    assert data == (
        b"\x11" * CLUSTER + b"\x22" * 1024 + b"\x11" * (CLUSTER - 1024) + bytes(CLUSTER)
    )
    assert file_length(monitor, "a-file") == 6 * CLUSTER


def test_writing_an_image_whose_backing_file_is_missing_is_an_error(monitor: Monitor) -> None:
    monitor.images.create("hd1.qcow2", format="qcow2", size=MIB, backing="nope.qcow2")
    with pytest.raises(ImageError, match="No such file"):
        monitor.images.write("hd1.qcow2", 0, 512, 1)


def test_reading_through_copy_on_read_copies(monitor: Monitor) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    monitor.images.create("hd1.qcow2", format="qcow2", size=MIB, backing="hd0.qcow2")
    monitor.images.write("hd0.qcow2", 0, MIB, 9)
    file = {"driver": "file", "filename": "hd1.qcow2", "node-name": "a-file"}
    overlay = {"driver": "qcow2", "node-name": "a", "file": file}
    qmp(monitor, "blockdev-add", driver="copy-on-read", node_name="c", file=overlay)
    monitor.read("c", 0, 1000)
    qmp(monitor, "blockdev-reopen", options=[{**overlay, "backing": None}])
    assert monitor.read("a", 0, 2 * CLUSTER) == b"\x09" * CLUSTER + bytes(CLUSTER)
    assert file_length(monitor, "a-file") == 6 * CLUSTER


def raw_files(monitor: Monitor, *patterns: int) -> list[dict[str, Any]]:
    """A raw file of each pattern; returns the options of their nodes."""
    found = []
    for index, pattern in enumerate(patterns):
        monitor.images.create(f"{index}.raw", format="raw", size=MIB)
        monitor.images.write(f"{index}.raw", 0, 512, pattern)
        found.append({"driver": "file", "node-name": f"f{index}", "filename": f"{index}.raw"})
    return found


@pytest.mark.parametrize(
    ("patterns", "threshold", "pattern", "first"),
    [
        ((1, 1, 2), 2, "quorum", 1),
        ((1, 2, 2), 2, "quorum", 2),
        ((1, 2, 3), 1, "quorum", 3),
        ((1, 2, 3), 1, "fifo", 1),
        ((1, 2, 3), 2, "quorum", None),
    ],
)
def test_a_quorum_votes(
    monitor: Monitor, patterns: tuple[int, ...], threshold: int, pattern: str, first: int | None
) -> None:
    files = raw_files(monitor, *patterns)
    qmp(
        monitor,
        "blockdev-add",
        driver="quorum",
        node_name="q",
        children=files,
        vote_threshold=threshold,
        read_pattern=pattern,
    )
    if first is None:
        with pytest.raises(ImageError, match="agree"):
            monitor.read("q", 0, 512)
    else:
        assert monitor.read("q", 0, 512) == bytes([first]) * 512


def test_a_quorum_may_rewrite_what_was_voted_down(monitor: Monitor) -> None:
    qmp(
        monitor,
        "blockdev-add",
        driver="quorum",
        node_name="q",
        children=raw_files(monitor, 1, 1, 2),
        vote_threshold=2,
        rewrite_corrupted=True,
    )
    monitor.read("q", 0, 512)
    assert monitor.read("f2", 0, 512) == b"\1" * 512


@pytest.mark.parametrize("offset", [1, 512])
@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_stays_open_directly_refuses_small_reads(
    monitor: Monitor, offset: int, times: int
) -> None:
    """The second reopen needs no new descriptor, and forgets how the old one was opened."""
    monitor.images.create("hd0.raw", format="raw", size=MIB)
    file = {"driver": "file", "filename": "hd0.raw", "node-name": "f0"}
    qmp(monitor, "blockdev-add", driver="raw", node_name="n0", file=file, offset=offset)
    direct = {**file, "cache": {"direct": True}}
    for options in [direct] * times + [{**file, "read-only": True}]:
        qmp(monitor, "blockdev-reopen", options=[options])
    qmp(monitor, "reopencheck-read", node="n0")
    assert monitor.outcome is not None
    met = {"hazard.unaligned"} if (offset, times) == (1, 2) else set()
    assert monitor.outcome.hazards == met


@pytest.mark.parametrize(
    ("offset", "length", "clusters"),
    [
        (0, CLUSTER, 6),  # zeroes alone: the file ends with the cluster that was there
        (0, CLUSTER // 2, 7),  # the rest of the cluster is written, too
        (2 * CLUSTER, 2 * CLUSTER, 6),  # in a row with ones, which are there already
        (3 * CLUSTER, 2 * CLUSTER, 6),
    ],
)
def test_a_file_unmaps_rows_of_zeroes(
    monitor: Monitor, offset: int, length: int, clusters: int
) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    given = qcow2("a", "hd0.qcow2")
    given["file"] |= {"detect-zeroes": "unmap", "discard": "unmap"}
    qmp(monitor, "blockdev-add", **given)
    monitor.write("a", 2 * CLUSTER, CLUSTER, 1)
    monitor.write("a", offset, length, 0)
    assert monitor.state.images["hd0.qcow2"].length == clusters * CLUSTER


@pytest.mark.parametrize("raw", ["q", "f2"])
@pytest.mark.parametrize("pattern", [1, 2])
def test_what_is_read_at_once_is_read_before_a_quorum_rewrites(
    monitor: Monitor, raw: str, pattern: int
) -> None:
    """Both images of a blkverify node, whichever of them is the quorum."""
    files = raw_files(monitor, 1, 1, pattern)
    names = {"node_name": "q", "vote_threshold": 2, "rewrite_corrupted": True}
    qmp(monitor, "blockdev-add", driver="quorum", children=files, **names)
    test = "q" if raw == "f2" else "f2"
    both = {"raw": raw, "test": test, "read_only": True}
    qmp(monitor, "blockdev-add", driver="blkverify", node_name="v", **both)
    if pattern == 1:
        assert monitor.read("v", 0, 512) == b"\1" * 512
    else:
        with pytest.raises(ImageError, match="differ; QEMU ends there"):
            monitor.read("v", 0, 512)


@pytest.mark.parametrize("zeroes", ["off", "on", "unmap"])
def test_detected_zeroes_hide_what_lies_below(monitor: Monitor, zeroes: str) -> None:
    monitor.images.create("hd0.qcow2", format="qcow2", size=MIB)
    monitor.images.create("hd1.qcow2", format="qcow2", size=MIB, backing="hd0.qcow2")
    monitor.images.write("hd0.qcow2", 0, MIB, 9)
    given = qcow2("a", "hd1.qcow2", discard="unmap", detect_zeroes=zeroes)
    qmp(monitor, "blockdev-add", **given)
    monitor.write("a", 0, CLUSTER, 0)
    zero_length = file_length(monitor, "a-file")
    assert zero_length == (6 if zeroes == "off" else 5) * CLUSTER
    monitor.write("a", CLUSTER, CLUSTER, 5)
    monitor.write("a", CLUSTER, CLUSTER, 0)
    assert monitor.read("a", 0, 3 * CLUSTER) == bytes(2 * CLUSTER) + b"\x09" * CLUSTER
    monitor.write("a", 2 * CLUSTER, CLUSTER, 6)
    expected = {"off": 8, "on": 7, "unmap": 6}[zeroes]
    assert file_length(monitor, "a-file") == expected * CLUSTER
