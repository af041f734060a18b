# SPDX-License-Identifier: GPL-2.0-or-later
"""The series of January 2019: what its letter shows, and each of its rules dropped in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from model import Monitor
from model.release.dialects import DIALECTS, PROPOSALS, nearest_dialect
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.series_v1 import SERIES_V1

if TYPE_CHECKING:
    from model.release.dialect import Dialect

OTHER_CONTEXT = "Cannot use a new backing file with a different AioContext"
MIB = 1 << 20


def run(monitor: Monitor, name: str, **arguments: Any) -> str:
    """Carry out a command; the text of its error, "" for none."""
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    reply = monitor.execute({"execute": name, "arguments": plain})
    error: dict[str, str] = reply.get("error", {})
    return error.get("desc", "")


def image(name: str, **options: Any) -> dict[str, Any]:
    """The options of an image as the letter writes them."""
    file = {"driver": "file", "filename": f"{name}.qcow2", "node-name": f"{name}f"}
    return {"driver": "qcow2", "node-name": name, "file": file, **options}


def started(dialect: Dialect = SERIES_V1) -> Monitor:
    """hd1 <- hd0, opened at once, and hd2 beside."""
    monitor = Monitor(dialect)
    for name in ("hd0", "hd1", "hd2"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=MIB)
    assert run(monitor, "blockdev-add", **image("hd0", backing=image("hd1", backing=None))) == ""
    assert run(monitor, "blockdev-add", **image("hd2")) == ""
    return monitor


def reopen(monitor: Monitor, **options: Any) -> str:
    return run(monitor, "x-blockdev-reopen", **image("hd0", **options))


def backing_of(monitor: Monitor, name: str = "hd0") -> str | None:
    link = monitor.state.nodes[name].link("backing")
    return None if link is None else link.child


def hazards(monitor: Monitor) -> frozenset[str]:
    assert monitor.outcome is not None
    return monitor.outcome.hazards


def test_it_is_no_release() -> None:
    assert SERIES_V1.name in PROPOSALS
    assert SERIES_V1.name not in DIALECTS
    assert nearest_dialect(SERIES_V1.release) is QEMU_5_2
    assert SERIES_V1.schema_name == QEMU_5_2.schema_name


# What the letter shows, and what its author answers


def test_an_option_gets_another_value() -> None:
    monitor = started()
    assert reopen(monitor, backing="hd1", **{"l2-cache-size": 524288}) == ""
    assert monitor.state.nodes["hd0"].options["l2-cache-size"] == 524288


def test_a_missing_option_is_reset() -> None:
    monitor = started()
    assert reopen(monitor, backing="hd1", **{"l2-cache-size": 2 * MIB}) == ""
    assert reopen(monitor, backing="hd1") == ""
    assert "l2-cache-size" not in monitor.state.nodes["hd0"].options


def test_a_missing_option_that_cannot_change_is_refused() -> None:
    monitor = started()
    assert run(monitor, "blockdev-add", driver="null-co", node_name="z", size=512) == ""
    told = run(monitor, "x-blockdev-reopen", driver="null-co", node_name="z")
    assert told == "Option 'size' cannot be reset to its default value"


def test_the_node_is_named() -> None:
    options = {key: value for key, value in image("hd0").items() if key != "node-name"}
    assert run(started(), "x-blockdev-reopen", **options) == "Node name not specified"


def test_null_removes_the_backing_file() -> None:
    monitor = started()
    assert reopen(monitor, backing=None) == ""
    assert backing_of(monitor) is None
    assert "hd1" not in monitor.state.nodes


def test_options_are_for_the_present_backing_file() -> None:
    monitor = started()
    assert reopen(monitor, backing=image("hd1", backing=None, **{"l2-cache-size": 524288})) == ""
    assert monitor.state.nodes["hd1"].options["l2-cache-size"] == 524288
    other = image("other", backing=None)
    assert reopen(monitor, backing=other) == "Cannot change the option 'node-name'"


def test_a_reference_replaces_it() -> None:
    monitor = started()
    assert reopen(monitor, backing="hd2") == ""
    assert backing_of(monitor) == "hd2"


def test_it_is_not_left_out() -> None:
    monitor = started()
    assert reopen(monitor) == "backing is missing for 'hd0'"
    assert reopen(monitor, backing=None) == ""
    assert run(monitor, "x-blockdev-reopen", **image("hd2")) == ""


def test_nor_where_only_the_image_names_one() -> None:
    """The default is to open it, which a reopen does not do."""
    monitor = Monitor(SERIES_V1)
    monitor.images.create("base.qcow2", format="qcow2", size=MIB)
    monitor.images.create(
        "active.qcow2", format="qcow2", backing="base.qcow2", backing_format="qcow2"
    )
    assert run(monitor, "blockdev-add", **image("active")) == ""
    assert run(monitor, "x-blockdev-reopen", **image("active", backing=None)) == ""
    told = "backing is missing for 'active'"
    assert run(monitor, "x-blockdev-reopen", **image("active")) == told


def test_after_a_stream_it_is_the_new_one() -> None:
    monitor = started()
    assert run(monitor, "block-stream", job_id="j", device="hd0") == ""
    assert backing_of(monitor) is None
    assert reopen(monitor, backing="hd1") != ""
    assert reopen(monitor) == ""


# Each rule, and the dialect without it


def in_thread(dialect: Dialect, *moved: str) -> Monitor:
    """The same images, some of them in an iothread."""
    monitor = Monitor(dialect)
    assert run(monitor, "reopencheck-object", qom_type="iothread", id="io0") == ""
    for name in ("hd0", "hd1", "hd2"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=MIB)
    assert run(monitor, "blockdev-add", **image("hd0", backing=image("hd1", backing=None))) == ""
    assert run(monitor, "blockdev-add", **image("hd2")) == ""
    for name in moved:
        assert run(monitor, "x-blockdev-set-iothread", node_name=name, iothread="io0") == ""
    return monitor


@pytest.mark.parametrize("moved", ["hd0", "hd2"])
def test_a_new_backing_file_in_another_context_is_refused(moved: str) -> None:
    monitor = in_thread(SERIES_V1, moved)
    assert reopen(monitor, backing="hd2") == OTHER_CONTEXT
    assert backing_of(monitor) == "hd1"
    assert {monitor.state.nodes[name].context for name in ("hd0", "hd2")} == {"", "io0"}
    for dialect in (QEMU_5_2, SERIES_V1.without("reopen.same-context")):
        monitor = in_thread(dialect, moved)
        assert reopen(monitor, backing="hd2") == ""
        assert backing_of(monitor) == "hd2"
        assert len({monitor.state.nodes[name].context for name in ("hd0", "hd2")}) == 1


def test_one_in_the_same_context_is_not() -> None:
    monitor = in_thread(SERIES_V1, "hd0", "hd2")
    assert reopen(monitor, backing="hd2") == ""
    assert backing_of(monitor) == "hd2"


def test_the_command_locks_the_iothread_of_its_node() -> None:
    for dialect, defects in (
        (SERIES_V1, set()),
        (SERIES_V1.without("reopen.takes-context"), {"hazard.unlocked-iothread"}),
    ):
        monitor = in_thread(dialect, "hd0")
        assert reopen(monitor, backing=None) == ""
        assert hazards(monitor) & {"hazard.unlocked-iothread"} == defects


FREEZING = [
    ("stream.freezes", "block-stream", {"device": "hd0"}),
    ("commit.freezes", "block-commit", {"device": "top", "top_node": "hd0", "base_node": "hd1"}),
    ("mirror.freezes", "block-commit", {"device": "hd0"}),
]


@pytest.mark.parametrize(("rule", "command", "given"), FREEZING, ids=[each[0] for each in FREEZING])
@pytest.mark.parametrize("dropped", [False, True], ids=["with", "without"])
def test_a_job_freezes_its_chain(
    rule: str, command: str, given: dict[str, Any], *, dropped: bool
) -> None:
    monitor = started(SERIES_V1.without(rule) if dropped else SERIES_V1)
    monitor.images.create("top.qcow2", format="qcow2", size=MIB)
    if given["device"] == "top":
        assert run(monitor, "blockdev-add", **image("top", backing="hd0")) == ""
    assert run(monitor, command, job_id="j", auto_finalize=False, **given) == ""
    link = monitor.state.nodes["hd0"].link("backing")
    assert link is not None
    assert link.frozen == (0 if dropped else 1)
    told = reopen(monitor, backing=None)
    assert (told == "Cannot change 'backing' link from 'hd0' to 'hd1'") is not dropped
    if dropped:
        return  # the job has lost what it works on
    assert run(monitor, "job-cancel", id="j") == ""
    assert not any(each.frozen for each in monitor.state.links())


def test_what_qemu_reopens_for_itself_keeps_its_options() -> None:
    """A snapshot makes the node below it read-only, and leaves the rest."""
    for dialect, keeps in ((SERIES_V1, True), (SERIES_V1.without("reopen.keep-old"), False)):
        monitor = started(dialect)
        monitor.images.create("top.qcow2", format="qcow2", size=MIB)
        assert reopen(monitor, backing="hd1", **{"detect-zeroes": "on"}) == ""
        assert run(monitor, "blockdev-add", **image("top", backing=None)) == ""
        assert run(monitor, "blockdev-snapshot", node="hd0", overlay="top") == ""
        hd0 = monitor.state.nodes["hd0"]
        assert (hd0.read_only, hd0.detect_zeroes) == ((True, "on") if keeps else (False, "on"))


@pytest.mark.parametrize("dropped", [False, True], ids=["with", "without"])
def test_naming_the_present_backing_file_changes_nothing(*, dropped: bool) -> None:
    monitor = started(SERIES_V1.without("reopen.same-child") if dropped else SERIES_V1)
    assert run(monitor, "block-stream", job_id="j", device="hd0", auto_finalize=False) == ""
    told = reopen(monitor, backing="hd1")
    assert told == ("Cannot change 'backing' link from 'hd0' to 'hd1'" if dropped else "")


@pytest.mark.parametrize("dropped", [False, True], ids=["with", "without"])
def test_a_backing_file_that_is_taken_away_is_on_its_own(*, dropped: bool) -> None:
    monitor = started(SERIES_V1.without("reopen.unset-inherits") if dropped else SERIES_V1)
    reader = {"driver": "raw", "node_name": "r", "file": "hd1", "read_only": True}
    assert run(monitor, "blockdev-add", **reader) == ""
    assert monitor.state.nodes["hd1"].inherits_from == "hd0"
    assert reopen(monitor, backing=None) == ""
    assert monitor.state.nodes["hd1"].inherits_from == ("hd0" if dropped else None)
