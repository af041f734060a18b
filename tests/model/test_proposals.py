# SPDX-License-Identifier: GPL-2.0-or-later
"""What was proposed on the list and not taken: the alternatives as dialects."""

from __future__ import annotations

from typing import Any

import pytest

from model import Monitor
from model.release.dialects import PROPOSALS
from model.release.dialects.series_v1 import SERIES_V1
from model.graph.transition import Transition
from model.release.rules import Refusal

OTHERS = [name for name in PROPOSALS if name != SERIES_V1.name]


def run(monitor: Monitor, name: str, **arguments: Any) -> str:
    """Carry out a command; the text of its error, "" for none."""
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": name, "arguments": plain})
    error: dict[str, str] = reply.get("error", {})
    return error.get("desc", "")


def chain(dialect: str) -> Monitor:
    """An image with two backing files."""
    monitor = Monitor(dialect)
    backing = None
    for name in ("base", "mid", "top"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=65536)
        file = {"driver": "file", "filename": f"{name}.qcow2", "node-name": f"{name}-file"}
        given = {"driver": "qcow2", "node_name": name, "file": file, "backing": backing}
        assert run(monitor, "blockdev-add", **given) == ""
        backing = name
    return monitor


def filter_above(monitor: Monitor, name: str) -> str:
    """A copy-on-read filter that freezes the link between the two upper images."""
    given = {"driver": "copy-on-read", "file": "top", "bottom": "mid"}
    return run(monitor, "blockdev-add", node_name=name, **given)


def cut_off(monitor: Monitor) -> str:
    """Take the backing files away, by the command of a later release."""
    options = {"driver": "qcow2", "node-name": "top", "file": "top-file", "backing": None}
    return run(monitor, "blockdev-reopen", options=[options])


def reopen(monitor: Monitor, **options: Any) -> str:
    """Reopen the uppermost image with its file as it is."""
    given = {"driver": "qcow2", "node-name": "top", "file": "top-file", **options}
    return run(monitor, "x-blockdev-reopen", **given)


def backing_of(monitor: Monitor) -> str | None:
    link = monitor.state.nodes["top"].link("backing")
    return None if link is None else link.child


@pytest.mark.parametrize("name", OTHERS)
def test_a_proposal_is_a_change_to_the_series(name: str) -> None:
    changed = PROPOSALS[name].absent ^ SERIES_V1.absent
    freezing = {"freeze.frozen", "reopen.backing-missing"}
    assert changed
    assert all(rule in freezing or rule.startswith("proposal.") for rule in changed)


def frozen_twice(dialect: str) -> Transition:
    """Two users who freeze the links below the uppermost image."""
    monitor = chain(dialect)
    t = Transition(monitor.state, monitor.dialect.evaluation())
    for _ in range(2):
        t.freeze_chain("top", "base")
    return t


def test_a_counter_counts() -> None:
    t = frozen_twice("freeze-counter")
    for count in (2, 1, 0):
        assert [link.frozen for link in t.chain("top", "base")] == [count, count]
        t.unfreeze_chain("top", "base")


def test_the_series_has_a_flag() -> None:
    with pytest.raises(Refusal, match="Cannot change 'backing' link from 'top' to 'mid'"):
        frozen_twice("series-v1")


JOBS: list[tuple[str, dict[str, Any]]] = [
    ("block-stream", {"device": "top"}),
    ("block-stream", {"device": "top", "base_node": "base"}),
    ("block-stream", {"device": "mid"}),
    ("block-commit", {"device": "top"}),
    ("block-commit", {"device": "top", "base_node": "mid"}),
    ("block-commit", {"device": "top", "top_node": "mid"}),
]


@pytest.mark.parametrize("second", JOBS)
@pytest.mark.parametrize("first", JOBS)
def test_where_only_jobs_freeze_a_counter_changes_nothing(
    first: tuple[str, dict[str, Any]], second: tuple[str, dict[str, Any]]
) -> None:
    """A job keeps others from its nodes before it comes to frozen links."""
    told = []
    for dialect in ("series-v1", "freeze-counter"):
        monitor = chain(dialect)
        for number, (name, given) in enumerate((first, second)):
            said = run(monitor, name, job_id=f"j{number}", auto_finalize=False, **given)
        told.append(said)
        assert "Cannot change" not in said
    assert told[0] == told[1]


def test_elsewhere_a_flag_is_set_once() -> None:
    monitor = chain("qemu-7.2")
    assert filter_above(monitor, "one") == ""
    told = "Cannot change 'backing' link from 'top' to 'mid'"
    assert filter_above(monitor, "two") == told


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_elsewhere_a_counter_would_count_to_two_and_back(order: tuple[str, str]) -> None:
    monitor = chain("qemu-7.2 without freeze.frozen")
    assert filter_above(monitor, "one") == filter_above(monitor, "two") == ""
    for name in order:
        assert "frozen" in cut_off(monitor)
        assert run(monitor, "blockdev-del", node_name=name) == ""
    assert cut_off(monitor) == ""
    assert not any(link.frozen for link in monitor.state.links())


@pytest.mark.parametrize("dialect", ["omission-keeps", "null-resets"])
def test_what_is_left_out_is_kept(dialect: str) -> None:
    monitor = chain(dialect)
    given = {"detect-zeroes": "on", "read-only": True, "l2-cache-size": 131072}
    assert reopen(monitor, backing="mid", **given) == ""
    assert reopen(monitor, discard="unmap") == ""
    top = monitor.state.nodes["top"]
    assert (top.detect_zeroes, top.read_only, backing_of(monitor)) == ("on", True, "mid")
    assert top.options["l2-cache-size"] == 131072


def test_the_series_resets_what_is_left_out() -> None:
    monitor = chain("series-v1")
    assert reopen(monitor, backing="mid", **{"detect-zeroes": "on"}) == ""
    assert reopen(monitor) == "backing is missing for 'top'"
    assert reopen(monitor, backing="mid") == ""
    assert monitor.state.nodes["top"].detect_zeroes == "off"


def test_null_resets() -> None:
    monitor = chain("null-resets")
    given = {"detect-zeroes": "on", "read-only": True, "cache": {"direct": True, "no-flush": True}}
    assert reopen(monitor, **given) == ""
    nulls = {"detect-zeroes": None, "cache": {"direct": None}}
    assert reopen(monitor, **nulls) == ""
    top = monitor.state.nodes["top"]
    assert (top.detect_zeroes, top.no_cache, top.no_flush) == ("off", False, True)
    assert (top.read_only, backing_of(monitor)) == (True, "mid")
    assert not any(value is None for value in top.options.values())


def test_null_detaches_a_backing_file_all_the_same() -> None:
    monitor = chain("null-resets")
    assert reopen(monitor, backing=None) == ""
    assert backing_of(monitor) is None


def test_null_is_no_value_of_what_must_be_given() -> None:
    told = run(chain("null-resets"), "x-blockdev-reopen", driver=None)
    assert told == "Invalid parameter type for 'driver', expected: string"


@pytest.mark.parametrize("dialect", ["series-v1", "omission-keeps", "omitted-backing-detaches"])
def test_elsewhere_null_is_no_value(dialect: str) -> None:
    told = reopen(chain(dialect), **{"read-only": None})
    assert told == "Invalid parameter type for 'read-only', expected: boolean"


def test_a_name_that_is_null_is_none() -> None:
    options = {"driver": "null-co", "node_name": None}
    assert run(chain("null-resets"), "x-blockdev-reopen", **options) == "Node name not specified"


def test_nulls_are_for_reopening_only() -> None:
    told = run(Monitor("null-resets"), "blockdev-add", driver="null-co", node_name=None)
    assert told == "Invalid parameter type for 'node-name', expected: string"


def test_a_backing_file_that_is_left_out_is_detached() -> None:
    monitor = chain("omitted-backing-detaches")
    assert reopen(monitor) == ""
    assert backing_of(monitor) is None
    assert reopen(monitor) == ""


def test_a_frozen_one_cannot_be_left_out() -> None:
    monitor = chain("omitted-backing-detaches")
    given = {"device": "top", "base_node": "base", "auto_finalize": False}
    assert run(monitor, "block-stream", job_id="j", **given) == ""
    assert reopen(monitor) == "Cannot change 'backing' link from 'top' to 'mid'"
    assert backing_of(monitor) == "mid"
