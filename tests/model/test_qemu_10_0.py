# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that 10.0 has and 7.2 has not."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor

MIB = 1 << 20
CLUSTER = 65536
ZEROES = {"driver": "null-co", "read-zeroes": True, "size": MIB}
RESET = "Option 'active' cannot be reset to its default value"
POWER = "Cannot create block-copy-state: min-cluster-size needs to be a power of 2"
LARGE = "min-cluster-size too large: 9223372036854775808 > 9223372036854775807"


@pytest.fixture
def monitor() -> Monitor:
    found = Monitor("qemu-10.0")
    found.images.create("hd0.qcow2", format="qcow2", size=MIB)
    return found


def run(monitor: Monitor, command: str, **arguments: Any) -> Any:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": command, "arguments": named})
    return reply["return"] if "return" in reply else reply["error"]["desc"]


def add(monitor: Monitor, **options: Any) -> Any:
    return run(monitor, "blockdev-add", **{key.replace("_", "-"): v for key, v in options.items()})


def reopen(monitor: Monitor, *options: dict[str, Any]) -> Any:
    return run(monitor, "blockdev-reopen", options=list(options))


def hazards(monitor: Monitor) -> frozenset[str]:
    assert monitor.outcome is not None
    return monitor.outcome.hazards


# active


@pytest.mark.parametrize("again", [{}, {"active": True}])
def test_a_node_that_was_given_active_is_not_reopened(
    monitor: Monitor, again: dict[str, Any]
) -> None:
    options = {"node-name": "n0", **ZEROES}
    assert add(monitor, **options, active=True) == {}
    assert reopen(monitor, options | again) == RESET


def test_active_may_be_given_once(monitor: Monitor) -> None:
    options = {"node-name": "n0", **ZEROES}
    assert add(monitor, **options) == {}
    assert reopen(monitor, options | {"active": True}) == {}
    assert reopen(monitor, options | {"active": True}) == RESET


def test_a_child_does_not_inherit_active(monitor: Monitor) -> None:
    file = {"driver": "file", "node-name": "f0", "filename": "hd0.qcow2"}
    assert add(monitor, node_name="n0", driver="qcow2", file=file, active=True) == {}
    assert reopen(monitor, file) == {}


def test_inactive_nodes_are_not_modelled(monitor: Monitor) -> None:
    refusal = add(monitor, node_name="n0", **ZEROES, active=False)
    assert refusal == "reopencheck: an inactive node is not modelled"
    assert monitor.outcome is not None
    assert monitor.outcome.unmodelled == {"blockdev-add.active"}


# discard-no-unref


@pytest.mark.parametrize("keeps", [False, True])
def test_a_discarded_cluster_may_keep_its_place(monitor: Monitor, keeps: bool) -> None:
    """The next new cluster goes to the place that was given back, or behind it."""
    file = {"driver": "file", "node-name": "f0", "filename": "hd0.qcow2"}
    options = {"discard": "unmap", "detect-zeroes": "unmap", "discard-no-unref": not keeps}
    assert add(monitor, node_name="n0", driver="qcow2", file=file, **options) == {}
    options |= {"discard-no-unref": keeps, "driver": "qcow2", "node-name": "n0", "file": "f0"}
    assert reopen(monitor, options) == {}
    monitor.write("n0", 0, CLUSTER, 1)
    monitor.write("n0", 0, CLUSTER, 0)
    assert monitor.read("n0", 0, CLUSTER) == bytes(CLUSTER)
    image = monitor.state.images["hd0.qcow2"]
    assert (set(image.data), set(image.zeroed)) == (({0}, {0}) if keeps else (set(), set()))
    monitor.write("n0", 0, CLUSTER, 2)
    assert monitor.state.images["hd0.qcow2"].zeroed == frozenset()


# min-cluster-size


def backup(monitor: Monitor, least: int, **arguments: Any) -> Any:
    for name in ("n1", "n2"):
        assert add(monitor, node_name=name, **ZEROES) == {}
    pace = {"min-cluster-size": least}
    names = {"job_id": "j0", "device": "n1", "target": "n2", "sync": "none"}
    return run(monitor, "blockdev-backup", **names, x_perf=pace | arguments)


def filtered(monitor: Monitor, least: int) -> Any:
    options = {"driver": "copy-before-write", "file": ZEROES, "target": ZEROES}
    return add(monitor, node_name="n0", **options, min_cluster_size=least)


@pytest.mark.parametrize(("least", "cluster"), [(0, CLUSTER), (512, CLUSTER), (MIB, MIB)])
def test_pieces_are_as_large_as_asked_for(monitor: Monitor, least: int, cluster: int) -> None:
    assert filtered(monitor, least) == {}
    assert monitor.state.nodes["n0"].private.cluster == cluster


@pytest.mark.parametrize(("least", "said"), [(1000, POWER), (1 << 63, LARGE)])
def test_pieces_of_a_wrong_size(monitor: Monitor, least: int, said: str) -> None:
    prefix = "Could not create node: " if said == POWER else ""
    assert backup(monitor, least) == prefix + said
    prefix = "" if said == POWER else "Cannot create block-copy-state: "
    assert filtered(monitor, least) == prefix + said


def test_a_chunk_has_a_piece_at_least(monitor: Monitor) -> None:
    said = backup(monitor, MIB, **{"max-chunk": CLUSTER})
    assert said == f"Required max-chunk ({CLUSTER}) is less than backup cluster size ({MIB})"


@pytest.mark.parametrize("bits", [31, 32])
def test_pieces_that_do_not_fit_32_bits(monitor: Monitor, bits: int) -> None:
    met = {"hazard.min-cluster-wraps"} if bits == 32 else set()
    assert filtered(monitor, 1 << bits) == {}
    assert hazards(monitor) == met
