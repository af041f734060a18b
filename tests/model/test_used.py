# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table calls used is: giving it makes a difference that somebody can see.

Each member is tried in some situation with several values. One of them has to change the reply, the
events, the rules that decided, or the state, the mere options of nodes aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import Monitor, step
from model.commands.coverage import table
from model.release.dialects import DIALECTS
from model.values.state import EMPTY, FrozenDict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model import BlockState, Dialect
    from model.values.trace import Command, Json

EVERY = list(DIALECTS.values())

MIB = 1 << 20
ZEROES = {"driver": "null-co", "read-zeroes": True, "size": MIB}
_NODE: dict[str, dict[str, Json]] = {
    "blkdebug": {"image": "z0"},
    "blkverify": {"raw": "z0", "test": "z1"},
    "compress": {"file": "free"},
    "copy-before-write": {"file": "z0", "target": "z1"},
    "copy-on-read": {"file": "free"},
    "file": {"filename": "hd1.raw"},
    "null-aio": {},
    "null-co": {},
    "preallocate": {"file": "raw0"},
    "qcow2": {"file": "spare"},
    "quorum": {"children": ["z0", "z1"], "vote-threshold": 1},
    "raw": {"file": "z0"},
    "throttle": {"file": "z0", "throttle-group": "t0"},
}
"""A node of each driver, over those that there are."""

_JOB = {"job-id": "new"}
_COPY = {**_JOB, "device": "c0", "target": "c1", "sync": "full"}
_CHAIN = {**_JOB, "device": "top"}
SITUATIONS: dict[str, list[dict[str, Json]]] = {
    "block-commit": [_CHAIN, {**_CHAIN, "top-node": "mid"}],
    "block-export-add": [{"type": "nbd", "id": "new", "node-name": "free"}],
    "block-export-del": [{"id": "e0"}],
    "block-job-cancel": [{"device": "ready"}],
    "block-job-complete": [{"device": "ready"}],
    "block-job-dismiss": [{"id": "done"}],
    "block-job-finalize": [{"id": "pending"}],
    "block-job-pause": [{"device": "ready"}],
    "block-job-resume": [{"device": "paused"}],
    "block-job-set-speed": [{"device": "ready", "speed": 0}],
    "block-stream": [_CHAIN],
    "block_resize": [{"node-name": "free", "size": MIB}, {"node-name": "missing", "size": MIB}],
    "blockdev-backup": [_COPY, {**_COPY, "sync": "incremental", "bitmap": "b"}],
    "blockdev-del": [{"node-name": "free"}],
    "blockdev-mirror": [_COPY, {**_COPY, "device": "top", "target": "wide"}],
    "blockdev-reopen": [{"options": [{"driver": "raw", "node-name": "raw0", "file": "under"}]}],
    "blockdev-snapshot": [{"node": "free", "overlay": "over"}],
    "device_del": [{"id": "missing"}],
    **{f"job-{verb}": [{"id": "ready"}] for verb in ("cancel", "complete", "pause")},
    "job-dismiss": [{"id": "done"}],
    "job-finalize": [{"id": "pending"}],
    "job-resume": [{"id": "paused"}],
    "nbd-server-start": [{"addr": {"type": "unix", "data": {"path": "new.sock"}}}],
    "object-del": [{"id": "io0"}],
    "query-named-block-nodes": [{}],
    "x-blockdev-change": [{"parent": "vote"}, {"parent": "vote", "node": "free"}],
    "x-blockdev-set-iothread": [
        {"node-name": "free", "iothread": "io0"},
        {"node-name": "z1", "iothread": "io0"},
    ],
}
"""In what a command is tried: arguments to which the member is added, or which have it."""

VALUES: dict[str, tuple[Json, ...]] = {
    "addr": ({"type": "unix", "data": {"path": "other.sock"}},),
    "backing": ("z0",),
    "bitmap": ({"node": "z0", "name": "b"}, "b"),
    "bitmaps": ([{"node": "z0", "name": "b"}], ["b"]),
    "bottom": ("missing",),
    "cache": ({"direct": True}, {"no-flush": True}),
    "children": (["z0"],),
    "encrypt": ({"format": "aes"}, {"format": "luks", "key-secret": "s"}),
    "data": ({"path": "third.sock"},),
    "limits": ({"iops-total": -1},),
    "driver": ("null-aio", "raw"),
    "options": ([], [{"driver": "raw", "node-name": "missing"}]),
    "qom-type": ("iothread", "throttle-group"),
    "take-child-perms": (["write"],),
    "unshare-child-perms": (["write"],),
    "x-perf": ({"max-workers": 1}, {"max-workers": 0}),
}
_ANY: tuple[Json, ...] = (
    *(True, False, -1, 0, 1, 512, 4096, MIB, 1 << 60),
    *("missing", "free", "hd1.raw", "io0", "b", "x" * 5000),
    *("unmap", "on", "off", "native", "fifo", "luks", "write-blocking", "none", "stop", "always"),
)

EXPLAINED = {
    "qcow2.encrypt/aes.key-secret": "an image without encryption is refused whatever the secret",
    "qcow2.encrypt/luks.key-secret": "an image without encryption is refused whatever the secret",
    "block-export-add.type": "what any other type needs besides is not modelled",
    "null-aio.read-zeroes": "what a guest reads there, and what a job knows of it",
    "null-co.read-zeroes": "what a guest reads there, and what a job knows of it",
    "nbd-server-start.addr.type": "the rest of an address is another one with every type",
    "block-commit.on-error": "only a target that cannot be written to asks for it",
    "block-stream.on-error": "only an image that cannot be read asks for it",
    "blockdev-mirror.on-target-error": "only a target that cannot be written to asks for it",
    "qcow2.lazy-refcounts": "the state remembers it, and writes go by it",
}
"""Members for which no situation here shows it, and where they count."""


def plain(state: BlockState) -> BlockState:
    """The state without what nodes remember of their options."""
    nodes = {
        name: attrs.evolve(node, options=EMPTY, explicit=EMPTY)
        for name, node in state.nodes.items()
    }
    return attrs.evolve(state, nodes=FrozenDict(nodes))


def world(dialect: Dialect) -> BlockState:
    """Nodes, jobs, exports and objects to be named."""
    monitor = Monitor(dialect)
    images = monitor.images
    images.create("hd0.qcow2", format="qcow2", size=MIB)
    images.create("hd1.raw", format="raw", size=MIB)
    images.create("over.qcow2", format="qcow2", size=MIB)
    images.create("base.qcow2", format="qcow2", size=MIB)
    images.create("mid.qcow2", format="qcow2", backing="base.qcow2", backing_format="qcow2")
    images.create("top.qcow2", format="qcow2", backing="mid.qcow2", backing_format="qcow2")
    images.create("wide.qcow2", format="qcow2", size=2 * MIB)

    def run(name: str, /, **arguments: Json) -> None:
        reply = monitor.execute({"execute": name, "arguments": arguments})
        assert "return" in reply, reply

    def add(name: str, /, **options: Json) -> None:
        options = {key.replace("_", "-"): value for key, value in options.items()}
        run("blockdev-add", **options, **{"node-name": name})

    def image(name: str, /, **options: Json) -> None:
        add(name, driver="qcow2", file={"driver": "file", "filename": f"{name}.qcow2"}, **options)

    make = "object-add" if "object-add" in dialect.schema.commands else "reopencheck-object"
    run(make, **{"qom-type": "iothread", "id": "io0"})
    run(make, **{"qom-type": "throttle-group", "id": "t0"})
    for name in (
        "z0",
        "z1",
        "m0",
        "m1",
        "p0",
        "p1",
        "d0",
        "d1",
        "s0",
        "s1",
        "c0",
        "c1",
        "free",
        "under",
    ):
        add(name, **ZEROES)
    add("spare", driver="file", filename="hd0.qcow2")
    add("raw0", driver="raw", file="under")
    add("vote", driver="quorum", children=[ZEROES, ZEROES], vote_threshold=1)
    image("base")
    image("mid", backing="base")
    image("top", backing="mid")
    image("over", backing=None)
    image("wide")
    run("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
    run("block-export-add", **{"type": "nbd", "id": "e0", "node-name": "z1", "name": "shown"})
    hold = {"sync": "full", "auto-finalize": False, "auto-dismiss": False}
    run("blockdev-mirror", **{"job-id": "ready", "device": "m0", "target": "m1", **hold})
    run("blockdev-mirror", **{"job-id": "paused", "device": "s0", "target": "s1", **hold})
    run("job-pause", id="paused")
    run("blockdev-backup", **{"job-id": "pending", "device": "p0", "target": "p1", **hold})
    run("blockdev-backup", **{"job-id": "done", "device": "d0", "target": "d1", **hold})
    run("job-finalize", id="done")
    run("nbd-server-stop")
    run("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
    run("block-export-add", **{"type": "nbd", "id": "e0", "node-name": "z1", "name": "shown"})
    return monitor.state


def situations(command: str, variant: str) -> Iterator[dict[str, Json]]:
    if command == "blockdev-add":
        for driver, options in _NODE.items() if not variant else [(variant, _NODE[variant])]:
            yield {"driver": driver, "node-name": "new", **options}
            yield {"driver": driver, "node-name": "new", "read-only": True, **options}
    elif command == "object-add":
        for kind in [variant] if variant else ["iothread", "throttle-group"]:
            yield {"qom-type": kind, "id": "new"}
    else:
        yield from SITUATIONS[command]


def put(arguments: dict[str, Json], path: list[str], value: Json) -> dict[str, Json]:
    """The arguments with a member, perhaps within another one."""
    first, *rest = path
    if not rest:
        return {**arguments, first: value}
    inner = arguments.get(first)
    if isinstance(inner, list):
        return {**arguments, first: [put(inner[0], rest, value)]}
    return {**arguments, first: put(inner if isinstance(inner, dict) else {}, rest, value)}


def shown(state: BlockState, command: Command, dialect: Dialect) -> tuple[Any, ...]:
    outcome = step(state, command, dialect)
    rules = outcome.accepted, outcome.refused
    return outcome.reply, outcome.events, rules, plain(outcome.state), outcome.hazards


def refused_by_schema(outcome: tuple[Any, ...]) -> bool:
    """Whether it was the wrong type, which shows nothing."""
    return any(rule.startswith("qapi.") for rule in outcome[2][1])


def makes_a_difference(state: BlockState, dialect: Dialect, subject: str) -> bool:
    head, _, member = subject.partition(".")
    command, _, variant = head.partition("/")
    path = [part.partition("/")[0] for part in member.split(".")]
    for given in situations(command, variant):
        arguments = given
        if len(path) > 1 and path[0] in VALUES:
            arguments = {path[0]: VALUES[path[0]][0], **arguments}
        call = {"execute": command, "arguments": arguments}
        before = state
        if command == "nbd-server-start":
            before = step(state, {"execute": "nbd-server-stop"}, dialect).state
        base = shown(before, call, dialect)
        for value in (*VALUES.get(path[-1], ()), *_ANY):
            tried = {"execute": command, "arguments": put(arguments, path, value)}
            found = shown(before, tried, dialect)
            if found != base and not refused_by_schema(found):
                return True
    return False


@pytest.mark.parametrize("dialect", EVERY, ids=lambda dialect: dialect.name)
def test_what_is_used_makes_a_difference(dialect: Dialect) -> None:
    state = world(dialect)
    used = [e.subject for e in table(dialect.schema) if e.kind == "used" and "." in e.subject]
    assert len(used) > 100
    idle = [
        subject
        for subject in used
        if subject.removeprefix("blockdev-add/") not in EXPLAINED
        and not makes_a_difference(state, dialect, subject)
    ]
    assert not idle, "\n".join(idle)


def test_a_command_that_forgets_a_member_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = DIALECTS["qemu-7.2"]
    state = world(dialect)
    assert makes_a_difference(state, dialect, "block_resize.size")
    monkeypatch.setitem(
        __import__("model.commands", fromlist=["COMMANDS"]).COMMANDS,
        "block_resize",
        lambda _t, _arguments: None,
    )
    assert not makes_a_difference(state, dialect, "block_resize.size")
