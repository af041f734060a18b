# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing is accepted and ignored: the table of what is covered, beside each release's schema."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import Monitor
from model.commands import COMMANDS
from model.commands.coverage import coverage_of, table
from model.release.dialects import DIALECTS
from model.drivers import DRIVERS
from model.release.rules import NOT_MODELLED, Evaluation, NotModelledError, all_rules
from model.release.schema import Schema
from model.release.scope import SCOPES, Outside, scope
from reports.outside import render

if TYPE_CHECKING:
    from model import Dialect
    from model.values.trace import Json

EVERY = list(DIALECTS.values())
PAGE = Path(__file__).parents[2] / "docs" / "outside.md"


def document(name: str) -> dict[str, Any]:
    text = resources.files("model.schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def unknown(schema: Schema) -> list[str]:
    return [entry.subject for entry in table(schema) if not entry.kind]


@pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)
def test_every_member_is_used_outside_or_inert(dialect: Dialect) -> None:
    entries = table(dialect.schema)
    assert unknown(dialect.schema) == []
    assert {entry.kind for entry in entries} == {"used", "outside", "inert"}
    silent = [e.subject for e in entries if e.kind == "inert" and not e.reason]
    silent += [e.subject for e in entries if e.kind == "outside" and e.about and not e.reason]
    assert silent == []


@pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)
def test_the_table_has_every_command_driver_and_type(dialect: Dialect) -> None:
    schema = dialect.schema
    subjects = {entry.subject for entry in table(schema)}
    assert {*schema.other_commands} <= subjects
    assert {f"blockdev-add/{x}" for x in schema.values("blockdev-add.arg.driver")} <= subjects
    exports = schema.values("block-export-add.arg.type")
    assert {f"block-export-add/{x}" for x in exports} <= subjects
    if "object-add" in schema.commands:
        assert {f"object-add/{x}" for x in schema.values("object-add.arg.qom-type")} <= subjects


def test_no_member_has_two_classes() -> None:
    scopes = [*SCOPES.values(), *(driver.scope for driver in DRIVERS.values())]
    for each in [*scopes, *(v for s in scopes for v in s.variants.values())]:
        assert not each.used & {*each.outside, *each.inert}
        assert not {*each.outside} & {*each.inert}


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("blockdev-mirror.arg", "blockdev-mirror.new"),
        ("blockdev-backup.arg.x-perf", "blockdev-backup.x-perf.new"),
        ("blockdev-add.arg", "blockdev-add.new"),
        ("blockdev-add.arg/quorum", "blockdev-add/quorum.new"),
        ("object-add.arg/iothread", "object-add/iothread.new"),
        ("block-export-add.arg/nbd", "block-export-add/nbd.new"),
        ("nbd-server-start.arg", "nbd-server-start.new"),
    ],
)
def test_a_member_that_nobody_speaks_of_is_found_and_not_taken(kind: str, subject: str) -> None:
    changed = document("qemu-7.2")
    changed["types"][kind]["members"].append({"name": "new", "type": "bool", "optional": True})
    schema = Schema.from_document("changed", changed)
    assert unknown(schema) == [subject]


def test_a_member_that_nobody_speaks_of_is_answered_as_not_modelled() -> None:
    changed = document("qemu-7.2")
    changed["types"]["blockdev-del.arg"]["members"].append({"name": "new", "type": "bool"})
    known = coverage_of(Schema.from_document("changed", changed))["blockdev-del"]
    ev = Evaluation(frozenset(), {})
    with pytest.raises(NotModelledError, match="the member 'new' of blockdev-del is not modelled"):
        known.check(ev, {"node-name": "n0", "new": False})
    assert ev.unmodelled == {"blockdev-del.new"}


def test_a_driver_that_forgets_an_option_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(DRIVERS["copy-on-read"]), "others", ("file",))
    changed = {**SCOPES}
    add = COMMANDS["blockdev-add"]
    variants = {name: driver.scope for name, driver in DRIVERS.items()}
    changed[add] = attrs.evolve(SCOPES[add], variants=scope(variants=variants).variants)
    monkeypatch.setattr("model.coverage.SCOPES", changed)
    schema = Schema.from_document("mutant", document("qemu-7.2"))
    assert unknown(schema) == ["blockdev-add/copy-on-read.bottom"]


def test_a_command_never_sees_what_is_inert() -> None:
    known = coverage_of(DIALECTS["qemu-7.2"].schema)["blockdev-mirror"]
    assert known.told({"device": "n0", "on-source-error": "stop"}) == {"device": "n0"}


def test_a_value_that_means_the_default_may_be_given() -> None:
    known = Outside("x", unless=(False, 0))
    assert not known.matters(False)
    assert not known.matters(0)
    assert known.matters(True)
    assert known.matters("")
    assert not Outside("x", when="later").matters(True)


def test_the_page_is_made_from_the_table() -> None:
    tables = {name: table(dialect.schema) for name, dialect in DIALECTS.items()}
    assert PAGE.read_text(encoding="utf-8") == render(tables, all_rules())


# What is outside is answered in the spec's own voice, and changes nothing


def ready(dialect: Dialect) -> Monitor:
    monitor = Monitor(dialect)
    monitor.images.create("hd0.qcow2", format="qcow2", size="1M")
    monitor.images.create("hd1.raw", format="raw", size="1M")
    zeroes = {"driver": "null-co", "read-zeroes": True, "size": 1 << 20}
    for options in (
        {"driver": "qcow2", "node-name": "n0", "file": {"driver": "file", "filename": "hd0.qcow2"}},
        {**zeroes, "node-name": "z0"},
        {**zeroes, "node-name": "z1"},
    ):
        assert monitor.execute({"execute": "blockdev-add", "arguments": options}) == {"return": {}}
    return monitor


def left(monitor: Monitor, name: str, arguments: dict[str, Json]) -> str:
    """The one subject that is not modelled."""
    before = monitor.state
    reply = monitor.execute({"execute": name, "arguments": arguments})
    assert monitor.outcome is not None
    assert reply["error"]["class"] == NOT_MODELLED, reply
    assert reply["error"]["desc"].startswith("reopencheck: ")
    assert "not modelled" in reply["error"]["desc"]
    assert monitor.state is before
    assert not monitor.outcome.refused
    assert not monitor.outcome.events
    (subject,) = monitor.outcome.unmodelled
    return subject


@pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)
def test_every_other_command_is_not_modelled(dialect: Dialect) -> None:
    monitor = ready(dialect)
    for name in dialect.schema.other_commands:
        assert left(monitor, name, {}) == name


_COPY = {"job-id": "j0", "device": "z0", "target": "z1", "sync": "full"}
_UNIX = {"type": "unix", "data": {"path": "nbd.sock"}}
_AT_ONCE: list[tuple[str, str, dict[str, Json], str]] = [
    ("qemu-11.1", "blockdev-backup", {**_COPY, "discard-source": True}, ".discard-source"),
    ("qemu-11.1", "blockdev-backup", {**_COPY, "on-cbw-error": "break-snapshot"}, ".on-cbw-error"),
    (
        "qemu-7.2",
        "blockdev-backup",
        {**_COPY, "x-perf": {"use-copy-range": True}},
        ".x-perf.use-copy-range",
    ),
    ("qemu-7.2", "blockdev-backup", {**_COPY, "speed": 1}, ".speed"),
    ("qemu-5.2", "blockdev-mirror", {**_COPY, "speed": 1, "sync": "full"}, ".speed"),
    (
        "qemu-11.1",
        "block-stream",
        {"device": "n0", "job-id": "j0", "backing-mask-protocol": True},
        ".backing-mask-protocol",
    ),
    (
        "qemu-10.0",
        "block-commit",
        {"device": "n0", "job-id": "j0", "backing-mask-protocol": True},
        ".backing-mask-protocol",
    ),
    ("qemu-7.2", "nbd-server-start", {"addr": _UNIX, "max-connections": 1}, ".max-connections"),
    (
        "qemu-11.1",
        "nbd-server-start",
        {"addr": _UNIX, "handshake-max-seconds": 5},
        ".handshake-max-seconds",
    ),
    (
        "qemu-7.2",
        "nbd-server-start",
        {"addr": {"type": "inet", "data": {"host": "localhost", "port": "1"}}},
        ".addr/inet",
    ),
    (
        "qemu-7.2",
        "nbd-server-start",
        {"addr": {"type": "unix", "data": {"path": "/tmp/x"}}},  # noqa: S108  # never made
        ".addr/unix",
    ),
    (
        "qemu-7.2",
        "block-export-add",
        {"type": "fuse", "id": "e0", "node-name": "n0", "mountpoint": "x"},
        "/fuse",
    ),
    (
        "qemu-11.1",
        "block-export-add",
        {"type": "nbd", "id": "e0", "node-name": "n0", "allow-inactive": True},
        ".allow-inactive",
    ),
    ("qemu-7.2", "object-add", {"qom-type": "secret", "id": "s0", "data": "x"}, "/secret"),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "nbd", "node-name": "x", "server": {"type": "unix", "path": "x"}},
        "/nbd",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "raw", "node-name": "x", "file": {"driver": "luks", "file": "n0"}},
        "/luks",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {
            "driver": "copy-before-write",
            "node-name": "x",
            "file": "z0",
            "target": "z1",
            "cbw-timeout": 1,
        },
        "/copy-before-write.cbw-timeout",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "null-co", "node-name": "x", "latency-ns": 10**9},
        "/null-co.latency-ns",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "file", "node-name": "x", "filename": "/etc/hostname"},
        "/file.filename",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "file", "node-name": "x", "filename": "hd1.raw", "aio": "io_uring"},
        "/file.aio",
    ),
    (
        "qemu-7.2",
        "blockdev-add",
        {"driver": "blkdebug", "node-name": "x", "image": "z0", "config": "hd1.raw"},
        "/blkdebug.config",
    ),
    ("qemu-7.2", "reopencheck-read", {"node": "missing", "extra": 1}, "reopencheck-read"),
    ("qemu-7.2", "reopencheck-wait", {"id": "j0"}, "reopencheck-wait"),
    (
        "qemu-5.2",
        "reopencheck-object",
        {"qom-type": "throttle-group", "id": "t0", "x-bps-total": {}},
        "reopencheck-object",
    ),
    (
        "qemu-5.2",
        "reopencheck-object",
        {"qom-type": "throttle-group", "id": "t0", "x-bps-total": "1"},
        "reopencheck-object",
    ),
]


@pytest.mark.parametrize(("name", "command", "arguments", "subject"), _AT_ONCE)
def test_what_is_outside_is_answered_as_such(
    name: str, command: str, arguments: dict[str, Json], subject: str
) -> None:
    found = left(ready(DIALECTS[name]), command, arguments)
    assert found == (subject if subject == command else f"{command}{subject}")


def test_what_the_release_refuses_it_refuses_in_its_own_words() -> None:
    monitor = ready(DIALECTS["qemu-7.2"])
    for command, arguments, words in (
        (
            "object-add",
            {"qom-type": "memory-backend-ram", "id": "m0", "size": 4096},
            "invalid object type: memory-backend-ram",
        ),
        (
            "object-add",
            {"qom-type": "memory-backend-ram", "id": "0", "size": 4096},
            "Parameter 'id' expects an identifier",
        ),
        (
            "block-export-add",
            {"type": "fuse", "id": "e0", "node-name": "missing", "mountpoint": "x"},
            "Cannot find device='' nor node-name='missing'",
        ),
        ("migrate", {}, "The command migrate has not been found"),
    ):
        reply = monitor.execute({"execute": command, "arguments": arguments})
        assert reply["error"]["desc"] == words
        assert monitor.outcome is not None
        assert not monitor.outcome.unmodelled


def test_an_error_to_inject_is_outside_when_something_is_read() -> None:
    monitor = ready(DIALECTS["qemu-7.2"])
    debug = {"driver": "blkdebug", "node-name": "d0", "image": "z0"}
    rule = [{"event": "read_aio", "errno": 5}]
    add = {"execute": "blockdev-add", "arguments": {**debug, "inject-error": rule}}
    assert monitor.execute(add) == {"return": {}}
    subject = left(monitor, "reopencheck-read", {"node": "d0"})
    assert subject == "blockdev-add/blkdebug.inject-error"
    again = {"execute": "blockdev-reopen", "arguments": {"options": [add["arguments"]]}}
    assert monitor.execute(again) == {"return": {}}


def test_an_error_to_inject_is_outside_when_it_may_strike_while_a_node_is_opened() -> None:
    monitor = ready(DIALECTS["qemu-7.2"])
    image = {"driver": "file", "filename": "hd0.qcow2"}
    debug = {"driver": "blkdebug", "image": image, "inject-error": [{"event": "l1_update"}]}
    monitor.execute({"execute": "blockdev-del", "arguments": {"node-name": "n0"}})
    options = {"driver": "qcow2", "node-name": "q0", "file": debug}
    assert left(monitor, "blockdev-add", options) == "blockdev-add/blkdebug.inject-error"


@pytest.mark.parametrize(
    ("limits", "low"), [({"bps-total": 10**12}, False), ({"bps-total": 1}, True)]
)
def test_a_limit_is_outside_when_somebody_may_wait_for_it(
    limits: dict[str, int], low: bool
) -> None:
    monitor = ready(DIALECTS["qemu-7.2"])
    group = {"qom-type": "throttle-group", "id": "t0", "limits": limits}
    monitor.execute({"execute": "object-add", "arguments": group})
    throttle = {"driver": "throttle", "node-name": "t", "file": "z0", "throttle-group": "t0"}
    reply = monitor.execute({"execute": "blockdev-add", "arguments": throttle})
    assert reply == {"return": {}}
    if low:
        subject = left(monitor, "reopencheck-read", {"node": "t"})
        assert subject == "object-add/throttle-group.limits"
    else:
        read = {"execute": "reopencheck-read", "arguments": {"node": "t"}}
        assert monitor.execute(read) == {"return": []}


def test_a_speed_that_limits_nothing_is_modelled() -> None:
    monitor = ready(DIALECTS["qemu-7.2"])
    fast = {"execute": "blockdev-mirror", "arguments": {**_COPY, "speed": 1 << 40}}
    assert monitor.execute(fast) == {"return": {}}


@pytest.mark.parametrize(
    ("backing", "subject"),
    [
        ("nbd:unix:x", "blockdev-add/nbd"),
        ('json:{"driver": "nbd"}', "blockdev-add/nbd"),
        ("json:{'driver': 'null-co'}", "blockdev-add.json:"),
        ("json:" + "[" * 1000, "blockdev-add.json:"),
        ('json:{"driver": "raw", "offset": "1k", "file.driver": "null-co"}', "blockdev-add.offset"),
        ('json:{"driver": "null-co", "read-only": "yes"}', "blockdev-add.json:"),
    ],
)
def test_backing_files_that_are_not_modelled(backing: str, subject: str) -> None:
    monitor = Monitor("qemu-7.2")
    monitor.images.create("hd2.qcow2", format="qcow2", size="1M", backing=backing)
    file = {"driver": "file", "filename": "hd2.qcow2"}
    options = {"driver": "qcow2", "node-name": "q0", "file": file}
    assert left(monitor, "blockdev-add", options) == subject


def test_what_is_outside_cannot_be_left_out_of_a_dialect() -> None:
    dialect = DIALECTS["qemu-7.2"]
    assert all(rule.kind != "outside" for rule in dialect.rules())
    with pytest.raises(LookupError, match="says what is not modelled"):
        dialect.without("qapi.unmodelled")
