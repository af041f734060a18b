# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits follow from the other commands, and what is expected is asked for after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from checker.judge import Example
from checker.oracle import expect
from checker.settling import cause, is_wait, settled, through
from checker.tally import Tally
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.values.image_layout import ImageError
from tests.checker.jobs import ADD, CANCEL, COMMIT, PAUSE, READ, REOPEN, TRACE, command, wait

if TYPE_CHECKING:
    from model.values.trace import Trace


def with_commands(*commands: Any) -> Trace:
    return attrs.evolve(TRACE, commands=commands)


def test_waits_are_what_the_model_says() -> None:
    assert settled(TRACE, QEMU_7_2) == TRACE
    bare = with_commands(ADD, COMMIT, PAUSE, REOPEN, CANCEL, READ)
    assert settled(bare, QEMU_7_2) == TRACE
    assert settled(with_commands(ADD, *TRACE.commands[2:5], READ), QEMU_7_2).commands == (
        ADD,
        PAUSE,
        READ,
    )


def test_a_changed_job_is_waited_for_otherwise() -> None:
    fast = {**COMMIT, "arguments": {**COMMIT["arguments"], "speed": 0}}
    assert settled(with_commands(ADD, fast, READ), QEMU_7_2).commands == (
        ADD,
        fast,
        wait("j0", "null"),
        READ,
    )


def test_where_the_model_breaks_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_arguments: Any) -> None:
        raise RuntimeError

    monkeypatch.setitem(__import__("model").monitor.COMMANDS, "job-pause", breaks)
    found = settled(TRACE, QEMU_7_2).commands
    assert found == (*TRACE.commands[:4], REOPEN, CANCEL, READ)


def test_images_that_cannot_be_made_are_an_error() -> None:
    with pytest.raises(ImageError):
        settled(attrs.evolve(TRACE, images=TRACE.images[1:2]), QEMU_7_2)


def test_steps_and_their_waits() -> None:
    commands = TRACE.commands
    assert [through(commands, step) for step in (0, 1, 3, 5, 6, 8)] == [1, 3, 5, 6, 8, 9]
    assert [cause(commands, step) for step in (0, 1, 2, 7)] == [0, 1, 1, 6]
    assert is_wait(commands[2])
    assert not is_wait({"execute": None})


def test_nothing_is_asked_before_a_wait() -> None:
    seen = [expectation.observation for expectation in expect(TRACE, QEMU_7_2)]
    asked = [each.nodes is not None for each in seen]
    assert asked == [True, False, True, False, True, True, False, True, True]
    assert asked == [each.graph is not None for each in seen]
    assert asked == [each.jobs is not None for each in seen]
    assert {each.exports for each in seen} == {None}
    assert [(job["device"], job["status"]) for job in seen[4].jobs or ()] == [("j0", "paused")]
    assert seen[8].reply == {"return": [[0, 2 << 20, 5]]}


def test_exports_are_asked_for_where_there_may_be_any() -> None:
    export = command("block-export-add", type="nbd", id="e0", node_name="top")
    seen = expect(with_commands(ADD, export), QEMU_7_2)
    assert [e.observation.exports for e in seen] == [[], []]
    assert [e.observation.jobs for e in seen] == [None, None]


def test_what_a_run_saw_of_jobs_and_data() -> None:
    tally = Tally("diff", QEMU_7_2, seed=1)
    for trace in (
        TRACE,
        with_commands(ADD, REOPEN),
        with_commands(ADD, COMMIT, {"execute": "blockdev-reopen"}),
        with_commands(command("reopencheck-read", node="nobody")),
    ):
        tally.count(Example(trace, expect(trace, QEMU_7_2)))
    summary = tally.summary()
    assert (summary.reopened_with_job, summary.read_data) == (1, 1)
    visited = dict(summary.job_states)
    assert visited["created"] == 2
    assert visited["paused"] == visited["aborting"] == visited["null"] == 1
    assert summary.unvisited == ("ready", "standby", "waiting", "pending")
    document = summary.as_json()
    assert document["job_states"]["paused"] == 1
    assert (document["reopened_with_job"], document["read_data"]) == (1, 1)
