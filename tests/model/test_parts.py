# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads that a blkdebug node has made in parts, all compared with the four releases once."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor, find_dialect
from model.release.dialects import DIALECTS

CLUSTER = 65536
SPLIT = "hazard.copy-on-read-split"


def opened(dialect: str, size: int, *written: tuple[int, int], read: list[dict[str, Any]]) -> Any:
    """The outcome of reading the last of the nodes above an image n0."""
    monitor = Monitor(find_dialect(dialect))
    monitor.images.create("hd0.qcow2", format="qcow2", size=size)
    for start, length in written:
        monitor.images.write("hd0.qcow2", start, length, 5)
    image = {"driver": "qcow2", "file": {"driver": "file", "filename": "hd0.qcow2"}}
    for options in ({**image, "node-name": "n0", "backing": None}, *read):
        add = {"execute": "blockdev-add", "arguments": options}
        assert monitor.execute(add) == {"return": {}}
    monitor.execute({"execute": "reopencheck-read", "arguments": {"node": read[-1]["node-name"]}})
    return monitor.outcome


def copied(dialect: str, size: int, most: int, *written: tuple[int, int]) -> bool:
    """Whether a release would end where an image is read through a copy-on-read filter."""
    parts = {"driver": "blkdebug", "node-name": "n1", "image": "n0", "max-transfer": most}
    filter_ = {"driver": "copy-on-read", "node-name": "n2", "file": "n1"}
    return SPLIT in opened(dialect, size, *written, read=[parts, filter_]).hazards


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("size", "most", "written"),
    [
        (1536, 512, ()),  # the third part of the cluster begins behind the first request
        (4 * CLUSTER, 1000, ()),
        (4 * CLUSTER, 40000, ()),
        (4 * CLUSTER, 512, ((0, CLUSTER),)),
    ],
)
def test_parts_beside_a_request_are_a_hazard(
    dialect: str, size: int, most: int, written: tuple[tuple[int, int], ...]
) -> None:
    assert copied(dialect, size, most, *written)


@pytest.mark.parametrize(
    ("size", "most", "written"),
    [
        (1024, 512, ()),  # the second part begins where the first request ends
        (1536, 1000, ()),
        (4 * CLUSTER, CLUSTER // 2, ()),  # by the second request the cluster is there
        (4 * CLUSTER, CLUSTER + 512, ()),
        (4 * CLUSTER, CLUSTER, ()),
        (4 * CLUSTER, 98304, ()),
        (4 * CLUSTER, 512, ((0, 4 * CLUSTER),)),
        (4 * CLUSTER, 4 * CLUSTER + 1, ()),
    ],
)
def test_other_parts_do_no_harm(size: int, most: int, written: tuple[tuple[int, int], ...]) -> None:
    assert not copied("qemu-7.2", size, most, *written)


@pytest.mark.parametrize(("most", "count"), [(100, 1), (1000, 2), (CLUSTER, 128), (0, 256)])
def test_a_quorum_votes_on_each_part(most: int, count: int) -> None:
    zeroes = {"driver": "null-co", "read-zeroes": True, "size": 2 * CLUSTER, "node-name": "n1"}
    quorum = {
        "driver": "quorum", "children": ["n0", "n1"], "vote-threshold": 1, "node-name": "n2"
    }  # fmt: skip
    parts = {"driver": "blkdebug", "node-name": "n3", "image": "n2", "max-transfer": most}
    outcome = opened("qemu-7.2", 2 * CLUSTER, (0, 512), read=[zeroes, quorum, parts])
    first = outcome.events[0]
    assert first["event"] == "QUORUM_REPORT_BAD"
    assert first["data"]["sectors-count"] == count
