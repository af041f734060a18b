# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparison: everything counts, except masks, graph numbers and generated names."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from checker.compare.observations import ABSENT, MASKS, NORMALISATIONS, Renaming, compare_step
from checker.compare.traces import StepMismatch, compare_trace
from model.values.trace import Observation

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
JOB: dict[str, Any] = {
    "device": "j0",
    "type": "mirror",
    "status": "ready",
    "len": 10,
    "busy": False,
}
EXPORT: dict[str, Any] = {"id": "e0", "type": "nbd", "node-name": "n0", "shutting-down": False}


def seen(**changes: Any) -> Observation:
    """An observation of two nodes, changed by dotted path (dots spelled as ``__``)."""
    whole: dict[str, Any] = copy.deepcopy(
        {
            "reply": {"return": {}},
            "nodes": [NODE, CHILD],
            "graph": GRAPH,
            "jobs": [JOB],
            "exports": [EXPORT],
        }
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
    return Observation(**whole)


def differs(left: Observation, right: Observation) -> str | None:
    """The path of the first difference."""
    found = compare_step(left, right, Renaming())
    return None if found is None else found.path


def test_equal_is_equal() -> None:
    assert differs(seen(), seen()) is None


def test_masks_are_few_and_reasoned() -> None:
    assert len(MASKS) + len(NORMALISATIONS) < 10
    assert all(mask.reason for mask in MASKS)
    assert all(normalisation.reason for normalisation in NORMALISATIONS)


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
        ({"jobs__0__status": "running"}, "jobs[j0].status"),
        ({"jobs__0__len": 0}, "jobs[j0].len"),
        ({"jobs": []}, "jobs"),
        ({"exports__0__node_name": "n1"}, "exports[e0].node-name"),
        ({"exports": []}, "exports"),
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


def status(*words: str, job: str = "j0") -> tuple[dict[str, Any], ...]:
    """The events of a job that goes through these statuses."""
    return tuple({"event": "JOB_STATUS_CHANGE", "data": {"status": w, "id": job}} for w in words)


def told(*events: dict[str, Any], rest: bool = True) -> Observation:
    """A step with events; without ``rest`` it is not observed, as when a job is waited for."""
    nodes: list[dict[str, Any]] | None = [] if rest else None
    return Observation({"return": {}}, nodes, None, events)


def ready(length: int) -> dict[str, Any]:
    return {"event": "BLOCK_JOB_READY", "data": {"device": "j0", "type": "mirror", "len": length}}


def test_events_of_a_job_count_in_their_order() -> None:
    left = [told(*status("created", "running")), told(*status("ready"), ready(1))]
    assert compare_trace(left, left) is None
    swapped = [left[0], told(ready(1), *status("ready"))]
    found = compare_trace(left, swapped)
    assert found == StepMismatch(
        1, "events[j0]", "JOB_STATUS_CHANGE status=ready", "BLOCK_JOB_READY len=1 type=mirror"
    )
    longer = [left[0], told(*status("ready"), ready(2))]
    found = compare_trace(left, longer)
    assert found is not None
    assert (found.path, found.got) == ("events[j0]", "BLOCK_JOB_READY len=2 type=mirror")
    assert compare_trace(left, [left[0], told(*status("ready"))]) == StepMismatch(
        1, "events[j0]", "BLOCK_JOB_READY len=1 type=mirror", ABSENT
    )
    assert compare_trace([left[0], told()], [left[0], told(*status("ready"))]) == StepMismatch(
        1, "events[j0]", ABSENT, "JOB_STATUS_CHANGE status=ready"
    )


def test_events_may_come_while_a_job_is_waited_for() -> None:
    left = [told(*status("created", "running", "ready"), rest=False), told()]
    right = [told(*status("created"), rest=False), told(*status("running", "ready"))]
    assert compare_trace(left, right) is None
    late = [told(*status("created"), rest=False), told(), told(*status("running", "ready"))]
    found = compare_trace([*left, told()], late)
    assert found is not None
    assert (found.step, found.got) == (1, ABSENT)


def test_the_last_step_counts_though_it_was_not_observed() -> None:
    found = compare_trace([told(*status("created"), rest=False)], [told(rest=False)])
    assert found is not None
    assert found.path == "events[j0]"


@pytest.mark.parametrize("pair", [("paused", "running"), ("standby", "ready")])
def test_what_a_drain_does_to_a_job_is_left_out_on_both_sides(pair: tuple[str, str]) -> None:
    left = [told(*status(pair[1])), told()]
    right = [told(*status(pair[1], *pair, *pair)), told(*status(*pair))]
    assert compare_trace(left, right) is None
    assert compare_trace(right, left) is None
    stuck = [told(*status(pair[1])), told(*status(pair[0]))]
    assert compare_trace(left, stuck) is not None
    assert compare_trace(right, [*stuck, told(*status(pair[1]))]) is not None


def test_a_pause_is_no_pair_of_a_drain() -> None:
    crossed = [told(*status("running", "paused", "ready"))]
    assert compare_trace([told(*status("running"))], crossed) is not None
    assert compare_trace([told(*status("running", "paused"))], crossed) is not None


def test_the_order_of_events_of_different_jobs_does_not_count() -> None:
    first, second = status("created", "running"), status("created", "running", job="j1")
    deleted = {"event": "BLOCK_EXPORT_DELETED", "data": {"id": "e0"}}
    left = [told(*first, *second, deleted)]
    assert compare_trace(left, [told(deleted, *second, *first)]) is None
    found = compare_trace(left, [told(*second, *first)])
    assert found is not None
    assert found.path == "events[e0]"


def test_events_that_call_a_job_by_its_id_belong_to_it() -> None:
    pending = {"event": "BLOCK_JOB_PENDING", "data": {"id": "j0", "type": "stream"}}
    found = compare_trace([told(*status("pending"), pending)], [told(*status("pending"))])
    assert found == StepMismatch(0, "events[j0]", "BLOCK_JOB_PENDING type=stream", ABSENT)


def test_events_of_nobody_count_by_their_kind() -> None:
    odd = {"event": "QUORUM_FAILURE", "data": {"reference": "n0", "sector-num": 0}}
    found = compare_trace([told()], [told(odd)])
    assert found == StepMismatch(
        0, "events[QUORUM_FAILURE]", ABSENT, "QUORUM_FAILURE reference=n0 sector-num=0"
    )


def test_the_build_s_own_name_and_the_order_of_its_commands_do_not_count() -> None:
    def answer(value: Any) -> Observation:
        return Observation(reply={"return": value}, nodes=None, graph=None)

    def differs(expected: Any, got: Any) -> bool:
        return compare_step(answer(expected), answer(got), Renaming()) is not None

    version = {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}
    assert not differs(version, {**version, "package": "Debian 1:7.2"})
    assert differs(version, {**version, "qemu": {**version["qemu"], "minor": 1}})  # type: ignore[dict-item]
    assert differs(version, {"qemu": version["qemu"]})
    commands = [{"name": "a"}, {"name": "b"}]
    assert not differs(commands, commands[::-1])
    assert differs(commands, commands[:1])
    assert differs(commands, [{"name": "a"}, {"name": "c"}])
