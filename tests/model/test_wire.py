# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a client sends, there is a reply; and the limits of what the spec can follow."""

from __future__ import annotations

import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from model import Monitor
from model.release.dialects import DIALECTS, PROPOSALS
from model.values.image_layout import MOST_RUNS, ImageError
from model.release.rules import NOT_MODELLED
from model.graph.sizes import MOST
from strategies.mutations import mutated, odd_values, valid

if TYPE_CHECKING:
    from model import Dialect
    from model.values.trace import Json

EVERY = [*DIALECTS.values(), *PROPOSALS.values()]
VERSION = {"execute": "query-version"}


def nested(levels: int, inner: Json = 1) -> Json:
    value = inner
    for _ in range(levels):
        value = [value]
    return value


def endless() -> Json:
    value: list[Json] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "identity",
    [0, -(2**63), 2**64 - 1, 1.5, "x", None, True, [], {"a": [1]}, nested(90)],
    ids=lambda value: type(value).__name__,
)
def test_the_id_comes_back(identity: Json) -> None:
    reply = Monitor().execute({**VERSION, "id": identity})
    assert reply["id"] == identity
    assert "return" in reply


@pytest.mark.parametrize("levels", [900, 1023])
def test_an_id_may_nest_as_deeply_as_qemu_reads(levels: int) -> None:
    reply = Monitor().execute({**VERSION, "id": nested(levels)})
    assert "return" in reply
    inside = reply["id"]
    for _ in range(levels):
        (inside,) = inside
    assert inside == 1


def test_an_id_beyond_64_bits_is_read_as_floating_point() -> None:
    reply = Monitor().execute({**VERSION, "id": {"a": [2**64, -(2**63) - 1]}})
    assert reply["id"] == {"a": [float(2**64), -float(2**63)]}
    assert isinstance(reply["id"]["a"][0], float)


_NOT_JSON: list[tuple[Any, str]] = [
    (10**400, "request.id"),
    ([{"a": -(10**400)}], "request.id"),
    (float("nan"), "request"),
    (float("inf"), "request"),
    ("\ud800", "request"),
    ("\U0003ffff", "request"),
    ({"\udc00": 1}, "request"),
    ({1: 2}, "request"),
    ((1, 2), "request"),
    ({1, 2}, "request"),
    (b"x", "request"),
    (nested(1024), "request"),
    (endless(), "request"),
]


@pytest.mark.parametrize(("identity", "subject"), _NOT_JSON, ids=lambda value: type(value).__name__)
def test_what_qemu_s_parser_does_not_read_or_print_is_outside(identity: Any, subject: str) -> None:
    monitor = Monitor()
    before = monitor.state
    reply = monitor.execute({**VERSION, "id": identity})
    assert reply.keys() == {"error"}
    assert reply["error"]["class"] == NOT_MODELLED
    assert monitor.outcome is not None
    assert monitor.outcome.unmodelled == {subject}
    assert monitor.state is before


@pytest.mark.parametrize("request_", [None, True, 3, 0.5, "x", [], [VERSION]], ids=str)
def test_what_is_no_object_is_refused_in_qemu_s_words(request_: Any) -> None:
    reply = Monitor().execute(request_)
    assert reply["error"]["desc"] == "QMP input must be a JSON object"


def test_a_number_without_bounds_is_no_integer() -> None:
    options = {"driver": "null-co", "node-name": "n0", "size": 10**400}
    reply = Monitor().execute({"execute": "blockdev-add", "arguments": options})
    expected = "Invalid parameter type for 'size', expected: integer"
    assert reply["error"]["desc"] == expected


def test_capabilities_of_the_monitor_are_outside() -> None:
    monitor = Monitor()
    reply = monitor.execute({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})
    assert reply["error"]["class"] == NOT_MODELLED


@pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)
def test_there_is_a_reply_to_everything(dialect: Dialect) -> None:
    monitor = Monitor(dialect)
    kinds = set()
    for command in mutated(dialect, 1, 600):
        before = monitor.state
        reply = monitor.execute(command)
        assert len(reply.keys() & {"return", "error"}) == 1, command
        assert monitor.outcome is not None
        left = "error" in reply and reply["error"]["class"] == NOT_MODELLED
        assert left == bool(monitor.outcome.unmodelled), command
        assert not left or monitor.state is before, command
        kinds.add("left" if left else next(iter(reply.keys() - {"id"})))
    assert kinds == {"left", "return", "error"}


def test_the_same_seed_gives_the_same_commands() -> None:
    dialect = DIALECTS["qemu-7.2"]

    def told(seed: int) -> list[str]:
        commands = mutated(dialect, seed, 50)
        return [str(each.get("execute"))[:40] for each in commands if isinstance(each, dict)]

    assert told(3) == told(3)
    assert told(3) != told(4)


def test_what_the_schema_allows_is_let_through() -> None:
    dialect = DIALECTS["qemu-7.2"]
    rng = Random(5)  # noqa: S311  # nothing secret
    commands = [valid(dialect, rng) for _ in range(200)]
    known = [c for c in commands if c["execute"] in dialect.schema.commands]
    assert len(known) > len(commands) / 2
    for command in known:
        dialect.schema.check(command["execute"], command["arguments"])
    assert all(value is not odd_values() for value in odd_values())


# Limits


def chain(monitor: Monitor, count: int) -> None:
    zeroes = {"driver": "null-co", "node-name": "c0", "read-zeroes": True}
    monitor.execute({"execute": "blockdev-add", "arguments": zeroes})
    for number in range(1, count):
        options = {"driver": "raw", "node-name": f"c{number}", "file": f"c{number - 1}"}
        reply = monitor.execute({"execute": "blockdev-add", "arguments": options})
        assert reply == {"return": {}}, number


def test_a_node_over_as_many_as_there_may_be() -> None:
    monitor = Monitor("qemu-7.2")
    limit = sys.getrecursionlimit()
    chain(monitor, MOST["nodes"])
    top = f"c{MOST['nodes'] - 1}"
    before = monitor.state
    options = {"driver": "raw", "node-name": "one-more", "file": top}
    reply = monitor.execute({"execute": "blockdev-add", "arguments": options})
    assert reply["error"]["class"] == NOT_MODELLED
    assert f"more than {MOST['nodes']} nodes" in reply["error"]["desc"]
    assert monitor.state is before
    reopen = {"options": [{"driver": "raw", "node-name": top, "file": "c0"}]}
    reply = monitor.execute({"execute": "blockdev-reopen", "arguments": reopen})
    assert reply == {"return": {}}
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("levels", [30, 120])
def test_nodes_within_each_other(levels: int) -> None:
    options: dict[str, Json] = {"driver": "null-co", "read-zeroes": True}
    for _ in range(levels):
        options = {"driver": "raw", "file": options}
    monitor = Monitor("qemu-7.2")
    add = {"execute": "blockdev-add", "arguments": {**options, "node-name": "top"}}
    assert monitor.execute(add) == {"return": {}}
    assert len(monitor.state.nodes) == levels + 1
    delete = {"execute": "blockdev-del", "arguments": {"node-name": "top"}}
    assert monitor.execute(delete) == {"return": {}}
    assert not monitor.state.nodes


def test_more_objects_than_there_may_be() -> None:
    monitor = Monitor("qemu-7.2")
    replies = [
        monitor.execute(
            {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": f"io{number}"}}
        )
        for number in range(MOST["objects"] + 1)
    ]
    assert [n for n, reply in enumerate(replies) if "error" in reply] == [MOST["objects"]]
    assert replies[-1]["error"]["class"] == NOT_MODELLED


def test_more_runs_in_an_image_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_RUNS > 1000
    monitor = Monitor("qemu-7.2")
    monitor.images.create("hd0.raw", format="raw", size="1M")
    for number in range(3):
        monitor.images.write("hd0.raw", number * 1024, 512, 7)
    most = len(monitor.images["hd0.raw"].extents)
    monkeypatch.setattr("model.images.MOST_RUNS", most)
    monkeypatch.setattr("model.sizes.MOST_RUNS", most)
    with pytest.raises(ImageError, match=f"more than {most} runs"):
        monitor.images.write("hd0.raw", 8192, 512, 7)
    file = {"driver": "file", "filename": "hd0.raw"}
    options = {"driver": "raw", "node-name": "n0", "file": file}
    monitor.execute({"execute": "blockdev-add", "arguments": options})
    write = {"node": "n0", "offset": 8192, "length": 512, "pattern": 7}
    before = monitor.state
    reply = monitor.execute({"execute": "reopencheck-write", "arguments": write})
    assert reply["error"]["class"] == NOT_MODELLED
    assert monitor.state is before
