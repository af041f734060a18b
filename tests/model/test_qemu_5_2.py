# SPDX-License-Identifier: GPL-2.0-or-later
"""What is special about 5.2: each difference from 7.2 as the real daemon shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from model import Monitor
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2

if TYPE_CHECKING:
    from model.values.trace import Reply


def monitor() -> Monitor:
    made = Monitor(QEMU_5_2)
    for name in ("base", "top", "other"):
        made.images.create(f"{name}.qcow2", format="qcow2", size="1M")
    made.images.create("plain.raw", format="raw", size="1M")
    return made


def do(made: Monitor, execute: str, **arguments: Any) -> Reply:
    given = {key.replace("_", "-"): value for key, value in arguments.items()}
    return made.execute({"execute": execute, "arguments": given})


def ok(made: Monitor, execute: str, **arguments: Any) -> Any:
    reply = do(made, execute, **arguments)
    assert "return" in reply, reply
    return reply["return"]


def refused(made: Monitor, execute: str, **arguments: Any) -> str:
    return str(do(made, execute, **arguments)["error"]["desc"])


def image(name: str) -> dict[str, Any]:
    return {"driver": "qcow2", "file": {"driver": "file", "filename": f"{name}.qcow2"}}


def add(made: Monitor, node_name: str, **options: Any) -> None:
    ok(made, "blockdev-add", node_name=node_name, **options)


def chain(made: Monitor) -> None:
    add(made, "base", **image("base"))
    add(made, "top", **image("top"), backing="base")


def test_one_node_is_reopened_with_flat_options() -> None:
    made = monitor()
    chain(made)
    options = {**image("top"), "backing": None}
    ok(made, "x-blockdev-reopen", node_name="top", **options)
    assert made.state.nodes["top"].link("backing") is None
    assert do(made, "blockdev-reopen", options=[])["error"]["class"] == "CommandNotFound"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"driver": "qcow2"}, "Node name not specified"),
        ({"driver": "qcow2", "node_name": "x"}, "Cannot find node named 'x'"),
    ],
)
def test_the_node_is_missing_in_other_words(options: dict[str, Any], text: str) -> None:
    assert refused(monitor(), "x-blockdev-reopen", file="f", **options) == text


def test_the_file_of_a_node_stays() -> None:
    made = monitor()
    chain(made)
    add(made, "f", driver="file", filename="other.qcow2")
    text = refused(
        made, "x-blockdev-reopen", node_name="top", driver="qcow2", file="f", backing="base"
    )
    assert text == "Cannot change the option 'file'"


def test_a_cycle_is_told_of_a_backing_file() -> None:
    made = monitor()
    chain(made)
    text = refused(made, "x-blockdev-reopen", node_name="base", **image("base"), backing="top")
    assert text == "Making 'top' a backing file of 'base' would create a cycle"


def test_a_null_that_changed_nothing_must_be_given_again() -> None:
    made = monitor()
    add(made, "base", **image("base"))
    ok(made, "x-blockdev-reopen", node_name="base", **image("base"), backing=None)
    text = refused(made, "x-blockdev-reopen", node_name="base", **image("base"))
    assert text == "Option 'backing' cannot be reset to its default value"


def test_permissions_are_checked_link_by_link() -> None:
    made = monitor()
    add(made, "base", **image("base"))
    add(made, "closed", driver="blkdebug", image="base", unshare_child_perms=["write"])
    text = refused(
        made, "blockdev-add", node_name="w", driver="blkdebug", image="base",
        take_child_perms=["write"],
    )  # fmt: skip
    assert text == "Conflicts with use by closed as 'image', which does not allow 'write' on base"


def test_a_user_that_writes_stands_against_what_would_not_share() -> None:
    made = monitor()
    add(made, "base", **image("base"))
    add(made, "w", driver="blkdebug", image="base", take_child_perms=["write"])
    text = refused(
        made, "blockdev-add", node_name="closed", driver="blkdebug", image="base",
        unshare_child_perms=["write"],
    )  # fmt: skip
    assert text == "Conflicts with use by w as 'image', which uses 'write' on base"


def test_a_writer_keeps_a_node_writable() -> None:
    made = monitor()
    add(made, "base", **image("base"))
    add(made, "w", driver="blkdebug", image="base", take_child_perms=["write"])
    text = refused(made, "x-blockdev-reopen", node_name="base", **image("base"), read_only=True)
    assert text == "Cannot make block node read-only, there is a writer on it"


def test_there_is_a_permission_to_change_children() -> None:
    made = monitor()
    chain(made)
    graph = ok(made, "x-debug-query-block-graph")
    assert all("graph-mod" in edge["shared-perm"] for edge in graph["edges"])
    later = Monitor(QEMU_7_2)
    later.images.create("base.qcow2", format="qcow2", size="1M")
    add(later, "base", **image("base"))
    graph = ok(later, "x-debug-query-block-graph")
    assert not any("graph-mod" in edge["shared-perm"] for edge in graph["edges"])


def test_a_stream_has_no_filter_and_freezes_the_chain_itself() -> None:
    made = monitor()
    chain(made)
    ok(made, "block-stream", job_id="j", device="top", auto_finalize=False)
    assert set(made.state.nodes) >= {"top", "base"}
    assert not any(node.driver == "copy-on-read" for node in made.state.nodes.values())
    text = refused(made, "x-blockdev-reopen", node_name="top", **image("top"), backing=None)
    # Only what lies above the base is frozen, and here the whole chain is streamed.
    assert text == "Cannot change 'backing' link from 'top' to 'base'"


def test_a_backup_has_a_filter_that_is_no_driver() -> None:
    made = monitor()
    chain(made)
    add(made, "other", **image("other"))
    ok(made, "blockdev-backup", job_id="j", device="top", target="other", sync="none",
       filter_node_name="f")  # fmt: skip
    node = made.state.nodes["f"]
    assert node.driver == "backup-top"
    assert {link.name for link in node.children} == {"backing", "target"}


def test_a_job_has_a_backend_before_all_else() -> None:
    made = monitor()
    chain(made)
    ok(made, "block-commit", job_id="j", device="top", auto_finalize=False)
    kinds = [user.kind for user in made.state.users.values()]
    assert kinds.count("block-backend") == 2  # its own, and that on the base
    assert made.state.jobs["j"].backend in made.state.users


def test_a_job_that_sleeps_goes_on_when_it_is_told_to_pause() -> None:
    made = monitor()
    made.images.write("base.qcow2", 0, 1 << 20, 7)
    chain(made)
    ok(made, "block-stream", job_id="j", device="top", speed=1)
    assert made.state.jobs["j"].status == "running"
    ok(made, "job-pause", id="j")
    assert made.state.jobs["j"].status == "running"
    assert ok(made, "query-block-jobs")[0]["paused"]


def test_a_paused_job_cannot_be_completed() -> None:
    made = monitor()
    chain(made)
    ok(made, "block-commit", job_id="j", device="top")
    ok(made, "job-pause", id="j")
    text = refused(made, "job-complete", id="j")
    assert text == "Job 'j' in state 'standby' cannot accept command verb 'complete'"


def test_a_mirror_of_other_size_fails_for_two_reasons() -> None:
    made = monitor()
    chain(made)
    add(made, "small", driver="null-co", size=512)
    ok(made, "blockdev-mirror", job_id="j", device="top", target="small", sync="full",
       auto_dismiss=False)  # fmt: skip
    assert ok(made, "query-jobs")[0]["error"] == "Source and target image have different sizes"
    assert ok(made, "query-block-jobs")[0]["error"] == "Invalid argument"


def test_an_export_is_there_although_its_node_could_not_move() -> None:
    made = monitor()
    ok(made, "reopencheck-object", qom_type="iothread", id="io0")
    add(made, "n", driver="null-co")
    ok(made, "nbd-server-start", addr={"type": "unix", "data": {"path": "s"}})
    ok(made, "block-export-add", type="nbd", id="e0", node_name="n", fixed_iothread=True)
    text = refused(
        made, "block-export-add", type="nbd", id="e1", node_name="n", name="x", iothread="io0"
    )
    assert text == "Cannot change iothread of active block backend"
    assert set(made.state.exports) == {"e0", "e1"}


def test_sizes_are_read_as_floating_point_numbers() -> None:
    made = monitor()
    add(made, "n", driver="null-co", size=2**63 - 513)
    assert made.state.nodes["n"].size == 2**63 - 1024
    add(made, "none", driver="null-co", size=2**63 - 1)
    assert made.state.nodes["none"].size == 0


def test_a_descriptor_has_locks_although_locking_is_off() -> None:
    made = monitor()
    unlocked = {"driver": "file", "filename": "top.qcow2", "locking": "off", "auto-read-only": True}
    add(made, "n", driver="qcow2", file=unlocked)
    add(made, "f", driver="file", filename="top.qcow2")
    text = refused(
        made, "blockdev-add", node_name="m", driver="blkdebug", take_child_perms=["write"],
        image="f",
    )  # fmt: skip
    assert text == 'Failed to get "write" lock'
