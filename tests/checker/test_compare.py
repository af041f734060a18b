# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparison: everything counts, except masks, graph numbers and generated names."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from checker.compare import ABSENT, MASKS, Renaming, compare_step, compare_trace
from model.trace import Observation

NODE: dict[str, Any] = {
    "node-name": "n0",
    "drv": "qcow2",
    "ro": False,
    "detect_zeroes": "off",
    "iops": 0,
    "file": "hd0.qcow2",
    "image": {"virtual-size": 10, "actual-size": 4, "backing-image": {"actual-size": 4, "a": 1}},
}
GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": 2, "type": "block-driver", "name": "n0"},
        {"id": 1, "type": "block-driver", "name": "#block0"},
    ],
    "edges": [
        {"parent": 2, "child": 1, "name": "file", "perm": ["a", "b"], "shared-perm": ["c"]},
    ],
}
CHILD = {**NODE, "node-name": "#block0"}


def seen(**changes: Any) -> Observation:
    """An observation of two nodes, changed by dotted path (dots spelled as ``__``)."""
    whole: dict[str, Any] = copy.deepcopy(
        {"reply": {"return": {}}, "nodes": [NODE, CHILD], "graph": GRAPH}
    )
    for path, value in changes.items():
        *way, last = path.split("__")
        place: Any = whole
        for word in way:
            place = place[int(word)] if word.isdigit() else place[word.replace("_", "-")]
        key = int(last) if last.isdigit() else last.replace("_", "-")
        if value is ABSENT:
            del place[key]
        else:
            place[key] = value
    return Observation(whole["reply"], whole["nodes"], whole["graph"], whole.get("events", ()))


def differs(left: Observation, right: Observation) -> str | None:
    """The path of the first difference."""
    found = compare_step(left, right, Renaming())
    return None if found is None else found.path


def test_equal_is_equal() -> None:
    assert differs(seen(), seen()) is None


def test_masks_are_few_and_reasoned() -> None:
    assert len(MASKS) < 10
    assert all(mask.reason for mask in MASKS)


@pytest.mark.parametrize(
    "path", ["nodes__0__image__actual_size", "nodes__0__image__backing_image__actual_size"]
)
def test_masked(path: str) -> None:
    assert differs(seen(), seen(**{path: 99})) is None
    assert differs(seen(), seen(**{path: ABSENT})) is None
    assert differs(seen(**{path: ABSENT}), seen()) is None


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"reply": {"return": []}}, "reply.return"),
        ({"reply": {"error": {"class": "GenericError", "desc": "x"}}}, "reply"),
        ({"nodes__0__ro": True}, "nodes[n0].ro"),
        ({"nodes__0__ro": 0}, "nodes[n0].ro"),
        ({"nodes__0__iops": False}, "nodes[n0].iops"),
        ({"nodes__0__ro": ABSENT}, "nodes[n0].ro"),
        ({"nodes__0__more": 1}, "nodes[n0].more"),
        ({"nodes__0__image__more": 1}, "nodes[n0].image.more"),
        ({"nodes__0__image__backing_image__a": 2}, "nodes[n0].image.backing-image.a"),
        ({"nodes": [CHILD, NODE]}, "nodes"),
        ({"nodes": [NODE]}, "nodes"),
        ({"graph__nodes__0__name": "other"}, "graph.nodes"),
        ({"graph__nodes__0__type": "block-job"}, "graph.nodes"),
        ({"graph__edges__0__perm": ["a"]}, "graph.edges[n0.file].perm"),
        ({"graph__edges__0__shared_perm": []}, "graph.edges[n0.file].shared-perm"),
        ({"graph__edges__0__name": "backing"}, "graph.edges"),
        ({"graph__edges": []}, "graph.edges"),
        ({"events": [{"event": "X"}]}, "events"),
    ],
)
def test_everything_counts_on_both_sides(changes: dict[str, Any], where: str) -> None:
    assert differs(seen(), seen(**changes)) == where
    other = differs(seen(**changes), seen())
    assert other is not None
    assert other.split("[", maxsplit=1)[0] == where.split("[", maxsplit=1)[0]


def test_the_order_of_edges_counts() -> None:
    second = {"parent": 2, "child": 1, "name": "backing", "perm": [], "shared-perm": []}
    left = seen(graph__edges=[*GRAPH["edges"], second])
    right = seen(graph__edges=[second, *GRAPH["edges"]])
    assert differs(left, left) is None
    assert differs(left, right) == "graph.edges(order)"


def test_permissions_are_sets_and_numbers_mean_nothing() -> None:
    renumbered = {
        "nodes": [{**GRAPH["nodes"][0], "id": 70}, {**GRAPH["nodes"][1], "id": 5}],
        "edges": [{**GRAPH["edges"][0], "parent": 70, "child": 5, "perm": ["b", "a"]}],
    }
    assert differs(seen(), seen(graph=renumbered)) is None


def test_texts_of_errors_count() -> None:
    left = seen(reply={"error": {"class": "GenericError", "desc": "a"}})
    right = seen(reply={"error": {"class": "GenericError", "desc": "b"}})
    assert differs(left, right) == "reply.error.desc"


def test_parts_that_were_not_asked_for_are_not_compared() -> None:
    silent = Observation({"return": {}}, None, None)
    assert differs(seen(), silent) is None
    assert differs(silent, seen()) is None


def renamed(name: str) -> Observation:
    return seen(nodes__1__node_name=name, graph__nodes__1__name=name, nodes__0__file=f"json:{name}")


def test_generated_names_are_equal_up_to_renaming() -> None:
    assert differs(renamed("#block012"), renamed("#block9")) is None
    assert differs(renamed("#block012"), renamed("n1")) == "nodes"


def test_a_renaming_holds_along_the_trace() -> None:
    def error(name: str) -> Observation:
        return Observation({"error": {"class": "C", "desc": f"Node '{name}' is busy"}}, [], None)

    assert (
        compare_trace(
            [renamed("#block1"), error("#block1")], [renamed("#block7"), error("#block7")]
        )
        is None
    )
    found = compare_trace(
        [renamed("#block1"), error("#block1")], [renamed("#block7"), error("#block8")]
    )
    assert found is not None
    assert (found.step, found.path) == (1, "reply.error.desc")


def test_two_names_never_become_one() -> None:
    names = Renaming()
    assert names.equal("#block1", "#block5")
    assert not names.equal("#block2", "#block5")
    assert not names.equal("#block1", "#block6")
    assert not names.equal("#block3 x", "#block7 y")
    assert not names.equal("#block3", "#block7 #block8")


def test_only_common_steps_are_compared() -> None:
    assert compare_trace([seen(), seen()], [seen()]) is None


def test_replies_of_queries_are_compared_as_such() -> None:
    numbered = {
        "nodes": [{**GRAPH["nodes"][0], "id": 9}, {**GRAPH["nodes"][1], "id": 8}],
        "edges": [{**GRAPH["edges"][0], "parent": 9, "child": 8}],
    }
    other = {"nodes": numbered["nodes"], "edges": []}
    asked = seen(reply={"return": GRAPH})
    assert differs(asked, seen(reply={"return": numbered})) is None
    assert differs(asked, seen(reply={"return": other})) == "reply.return: graph.edges"
    listed = seen(reply={"return": [NODE, CHILD]})
    masked = {**NODE, "image": {**NODE["image"], "actual-size": 0}}
    assert differs(listed, seen(reply={"return": [masked, CHILD]})) is None
    changed = {**NODE, "ro": True}
    assert differs(listed, seen(reply={"return": [changed, CHILD]})) == "reply.return: nodes[n0].ro"
    assert differs(listed, seen(reply={"return": []})) == "reply.return: nodes"
