# SPDX-License-Identifier: GPL-2.0-or-later
"""What is removed after a trace, and what makes a new process necessary."""

from __future__ import annotations

from model.values.trace import OBJECT, Command, Trace
from targets.daemons.own_commands import (
    objects_of,
)
from targets.daemons.reset import makes_users, needs_restart, removals


def test_removals_go_by_the_names_in_the_trace() -> None:
    trace = Trace(
        (),
        (
            {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "t0"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "a"}},
            {"execute": "blockdev-add", "arguments": {"node-name": "b"}},
            {"execute": "blockdev-add", "arguments": {"node-name": 7}},
            {"execute": "blockdev-add"},
            {"execute": "blockdev-add", "arguments": []},
            {},
        ),
    )
    assert [list(each.get("arguments", {}).values()) for each in removals(trace)] == [
        ["b"],
        ["a"],
        ["t0"],
        [True],
    ]


def test_only_effects_that_stay_need_a_restart() -> None:
    trace = Trace((), ({"execute": "chardev-add"}, {"execute": "query-jobs"}, {"foo": 1}))
    error = {"error": {"class": "GenericError", "desc": ""}}
    assert not needs_restart(trace, [error, {"return": []}, error], {"JOB_STATUS_CHANGE"})
    assert needs_restart(trace, [{"return": {}}], ())
    assert needs_restart(trace, [error], {"QUORUM_REPORT_BAD"})


def test_objects_of_a_trace_are_words_of_a_command_line() -> None:
    group = {"qom-type": "throttle-group", "id": "tg0", "x-iops-total": 9}
    commands: list[Command] = [
        {"execute": OBJECT, "arguments": group},
        {"execute": "query-jobs"},
    ]
    assert objects_of(commands) == ("--object", "throttle-group,id=tg0,x-iops-total=9")
    assert objects_of(commands[1:]) == ()


def test_a_daemon_whose_own_object_may_be_gone_is_not_used_again() -> None:
    own = {"execute": OBJECT, "arguments": {"qom-type": "iothread", "id": "io0"}}
    gone = {"execute": "object-del", "arguments": {"id": "io0"}}
    assert needs_restart(Trace((), (own, gone)), [{"return": {}}] * 2, ())
    assert not needs_restart(Trace((), (own,)), [{"return": {}}], ())


def test_jobs_exports_and_threads_are_removed_by_themselves() -> None:
    assert not makes_users(Trace((), ({"execute": "blockdev-add"}, {"execute": "query-jobs"})))
    for name in ("block-stream", "block-export-add", "x-blockdev-set-iothread"):
        assert makes_users(Trace((), ({"execute": name},)))
