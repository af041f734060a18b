# SPDX-License-Identifier: GPL-2.0-or-later
"""Hand-written scenarios with commits and streams, as image files and commands.

Where a trace has to wait for a job is put in when it is run (:func:`checker.settling.settled`).
The chain is a, b, c and d, d being on top; e and x are images of their own.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from model.values.trace import READ, WRITE
from model.values.trace import Command, ImageSpec, Trace
from tests.real.scenarios import KIB, MIB, add, file, node, qmp, resize
from tests.real.scenarios import reopen as reopen_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CLUSTER = 64 * KIB
CHAIN = "abcd"
PERMISSIONS = ("consistent-read", "write", "write-unchanged", "resize")

COMMIT_SCENARIOS: dict[str, Trace] = {}

Runs = tuple[tuple[int, int, int], ...]

DATA: dict[str, Runs] = {
    "a": ((0, MIB // 2, 7),),
    "b": ((0, CLUSTER, 1), (700 * KIB, 10 * KIB, 2)),
    "c": ((64 * KIB, 128 * KIB, 3), (300 * KIB, 300 * KIB, 4)),
    "d": ((128 * KIB, CLUSTER, 9),),
}


# Images


def chain(sizes: dict[str, int] | None = None, base: str = "a.qcow2") -> tuple[ImageSpec, ...]:
    """The images of the chain, of one MiB where nothing else is said, and those besides it."""
    made = []
    below: str | None = None
    for name in CHAIN:
        size = (sizes or {}).get(name, MIB)
        filename = base if name == "a" else f"{name}.qcow2"
        kind = filename.rpartition(".")[2]
        runs = tuple((o, min(n, size - o), p) for o, n, p in DATA[name] if o < size)
        backing = below and below.rpartition(".")[2]
        made.append(ImageSpec(filename, kind, size, below, backing, runs))
        below = filename
    return (*made, *(ImageSpec(f"{name}.qcow2", "qcow2", MIB) for name in "ex"))


# Commands


def qcow2(name: str, backing: str | None, **more: Any) -> Command:
    """Add the qcow2 node a on a.qcow2, its file being called af."""
    options = node("qcow2", name, file=file(f"{name}.qcow2", f"{name}f"), **more)
    return add({**options, "backing": backing})


def nodes(**more: dict[str, Any]) -> list[Command]:
    """Add the nodes of the chain, some with ``more`` options."""
    return [
        qcow2(name, CHAIN[i - 1] if i else None, **more.get(name, {}))
        for i, name in enumerate(CHAIN)
    ]


def inline(name: str = "d") -> dict[str, Any]:
    """The options of a node and all below it, which are opened with it."""
    options = node("qcow2", name, file=file(f"{name}.qcow2", f"{name}f"))
    if name != "a":
        options["backing"] = inline(CHAIN[CHAIN.index(name) - 1])
    return options


def commit(job: str = "j", device: str = "d", **more: Any) -> Command:
    """block-commit."""
    return qmp("block-commit", job_id=job, device=device, **more)


def stream(job: str = "j", device: str = "d", **more: Any) -> Command:
    """block-stream."""
    return qmp("block-stream", job_id=job, device=device, **more)


def pending(command: Command) -> Command:
    """The same job, which waits for the client before it changes the graph."""
    return {**command, "arguments": {**command["arguments"], "auto-finalize": False}}


def slow(command: Command) -> list[Command]:
    """The same job, which pauses when it has copied something."""
    return [{**command, "arguments": {**command["arguments"], "speed": 1}}, PAUSE]


def read(name: str) -> Command:
    """A guest reads all of a node."""
    return qmp(READ, node=name)


def delete(name: str) -> Command:
    """blockdev-del."""
    return qmp("blockdev-del", node_name=name)


def snapshot(name: str, overlay: str) -> Command:
    """blockdev-snapshot."""
    return qmp("blockdev-snapshot", node=name, overlay=overlay)


def reopen(name: str, **more: Any) -> Command:
    """blockdev-reopen of a qcow2 node with its file by reference."""
    return reopen_all(node("qcow2", name, file=f"{name}f", **more))


def throttle(name: str, child: str) -> Command:
    """Add a throttle filter."""
    return add(node("throttle", name, throttle_group="g", file=child))


def debug(name: str, child: str, **more: Any) -> Command:
    """Add a blkdebug filter."""
    return add(node("blkdebug", name, image=child, **more))


def export(name: str, **more: Any) -> Command:
    """block-export-add."""
    return qmp("block-export-add", id=f"x{name}", type="nbd", node_name=name, **more)


SERVER = qmp("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
GROUP = qmp("object-add", qom_type="throttle-group", id="g")
JOBS = qmp("query-jobs")
DEEP = qmp("query-named-block-nodes")
FINALIZE = qmp("job-finalize", id="j")
CANCEL = qmp("job-cancel", id="j")
PAUSE = qmp("job-pause", id="j")
RESUME = qmp("job-resume", id="j")
DISMISS = qmp("job-dismiss", id="j")
FAST = qmp("block-job-set-speed", device="j", speed=0)

E, X = qcow2("e", None), qcow2("x", None)

STARTS = {
    "commit-c-b": commit(top_node="c", base_node="b"),
    "commit-c-a": commit(top_node="c", base_node="a"),
    "commit-b-a": commit(top_node="b", base_node="a"),
    "stream": stream(),
    "stream-b": stream(base_node="b"),
    "stream-c": stream(device="c", base_node="a"),
    "stream-bottom": stream(bottom="c"),
}

Commands = list[Command]


def scenario(
    name: str,
    *commands: Command | Commands,
    images: Iterable[ImageSpec] | None = None,
    opened: Commands | None = None,
) -> None:
    """Keep a scenario."""
    flat = list(nodes() if opened is None else opened)
    for command in commands:
        flat += command if isinstance(command, list) else [command]
    COMMIT_SCENARIOS[name] = Trace(tuple(chain() if images is None else images), tuple(flat))


# A job's life


def _lives() -> None:
    """Every job from its beginning to every end."""
    for name, start in STARTS.items():
        waiting = pending(start)
        named = {**waiting, "arguments": {**waiting["arguments"], "filter-node-name": "F"}}
        scenario(f"{name}-done", start, read("d"))
        scenario(f"{name}-finalized", waiting, JOBS, DEEP, FINALIZE, read("d"), DEEP)
        scenario(f"{name}-cancelled", waiting, CANCEL, read("d"))
        scenario(f"{name}-named", named, DEEP, FINALIZE, read("d"))
        scenario(f"{name}-stopped", slow(start), CANCEL, read("d"))
        scenario(f"{name}-step-by-step", slow(start), RESUME, PAUSE, FAST, RESUME, read("d"))
    kept = commit(top_node="b", auto_dismiss=False)
    scenario("commit-dismissed", kept, JOBS, delete("b"), DISMISS, delete("b"))
    scenario("stream-not-dismissed", stream(auto_dismiss=False), JOBS)


# What is refused


def _refused() -> None:
    scenario(
        "commit-refused",
        E,
        commit(device="zz"),
        commit(device="b"),
        commit(top="c.qcow2", top_node="c"),
        commit(top_node="zz"),
        commit(top_node="e"),
        commit(top="zz"),
        commit(top="e.qcow2"),
        commit(top_node="c", base="a.qcow2", base_node="a"),
        commit(top_node="c", base_node="zz"),
        commit(top_node="c", base_node="e"),
        commit(top_node="b", base_node="c"),
        commit(top_node="c", base="zz"),
        commit(top_node="b", base="b.qcow2"),
        commit(top_node="c", base_node="c"),
        commit(top_node="a"),
        qmp("block-commit", device="d", top_node="c"),
        commit("9", top_node="c"),
        commit(top_node="c", speed=-1),
        *(commit(top_node="c", filter_node_name=name) for name in ("a", "9a", "a" * 40, "")),
        commit(device="e"),
        commit(device="e", backing_file="u"),
        commit(backing_file="u"),
        read("d"),
    )
    scenario(
        "stream-refused",
        E,
        stream(device="zz"),
        stream(base="b", base_node="b"),
        stream(base="b", bottom="b"),
        stream(bottom="b", base_node="b"),
        stream(base="zz"),
        *(stream(base_node=name) for name in ("zz", "d", "e")),
        *(stream(bottom=name) for name in ("zz", "e")),
        stream(backing_file="u"),
        stream(bottom="b", backing_file="u"),
        qmp("block-stream", device="d"),
        stream("9"),
        stream(speed=-1),
        *(stream(filter_node_name=name) for name in ("a", "9", "a" * 32)),
        read("d"),
    )
    writer = [SERVER, export("b", writable=True)]
    gone = qmp("block-export-del", id="xb", mode="hard")
    scenario(
        "stream-leaves-a-block-backend",
        writer,
        stream(device="c"),
        stream(device="c"),
        stream(),
        gone,
        DEEP,
        delete("d"),
        resize("d", 2 * MIB),
        pending(stream()),
        FINALIZE,
        delete("d"),
        resize("d", 2 * MIB),
    )
    scenario(
        "commit-and-writer",
        writer,
        *(STARTS[name] for name in STARTS if name.startswith("commit")),
        commit(top_node="b", base_node="a", backing_file="x"),
        gone,
        pending(STARTS["commit-c-a"]),
        *(export(name, writable=name != "c") for name in CHAIN),
        FINALIZE,
    )


# How images name their backing files


def _names() -> None:
    scenario("commit-by-file", commit(top="c.qcow2", base="b.qcow2"), commit(top="./b.qcow2"))
    scenario("stream-by-file", stream(base="b.qcow2"), stream(base="a.qcow2"), read("d"))
    for kind, start in (("commit", commit(top_node="c", base_node="b")), ("stream", stream())):
        arguments = {**start["arguments"], "backing-file": "zz"}
        if kind == "stream":
            arguments["base-node"] = "b"
        renamed = {**start, "arguments": arguments}
        scenario(f"{kind}-renamed", renamed, stream(base="b.qcow2"), stream(base="zz"), read("d"))
        for length in (1023, 1024):
            long = {**start, "arguments": {**arguments, "backing-file": "z" * length}}
            scenario(f"{kind}-name-{length}", pending(long), FINALIZE, read("d"))
    opened = [add(inline())]
    back = {
        name: reopen_all(
            node("qcow2", "d", file="df", backing=node("qcow2", name, file=f"{name}f", **more))
        )
        for name, more in (("c", {"backing": "b"}), ("b", {"backing": "a"}), ("a", {}))
    }
    for name, start in STARTS.items():
        scenario(
            f"inline-{name}",
            start,
            *(reopen("d", backing=b) for b in "abc"),
            *back.values(),
            opened=opened,
        )
        scenario(
            f"inline-{name}-alive", pending(start), back["c"], CANCEL, back["c"], opened=opened
        )


# Read-only nodes


def _read_only() -> None:
    every = {name: {"read_only": True} for name in CHAIN}
    for name, start in STARTS.items():
        opened = nodes(**every)
        scenario(f"read-only-{name}", pending(start), FINALIZE, read("d"), opened=opened)
        scenario(f"read-only-{name}-cancelled", pending(start), CANCEL, opened=opened)
    shared = nodes(**{**every, "a": {"read_only": True, "force_share": True}})
    scenario("read-only-for-ever", STARTS["commit-c-a"], read("d"), opened=shared)


# Clients that come in between


def _bump() -> Commands:
    return [
        E,
        X,
        *(delete(name) for name in CHAIN),
        *(resize(name, 2 * MIB) for name in CHAIN),
        *(snapshot(*pair) for pair in (("d", "e"), ("c", "x"), ("a", "x"))),
        *(reopen("d", backing=name) for name in ("c", "b", None)),
        *(reopen("c", backing=name) for name in ("b", "a", None)),
        *(reopen("b", backing=name) for name in ("a", "x", None)),
        *(reopen(name, read_only=True) for name in "abcd"),
        reopen("b", backing="a", read_only=True),
        reopen("c", backing="b", read_only=True),
        reopen("d", backing="c", lazy_refcounts=True),
        reopen_all(node("qcow2", "b", file="xf", backing="a")),
        *(commit("k", top_node=top) for top in "dcb"),
        *(stream("k", device=device) for device in CHAIN),
        *(stream("k", base_node=base) for base in "abc"),
    ]


def _between() -> None:
    for name, start in STARTS.items():
        scenario(f"bump-{name}", pending(start), _bump(), FINALIZE, read("d"))
        scenario(f"bump-paused-{name}", slow(start), _bump(), CANCEL, read("d"))
    # Those of a commit hang on the overlay above, which is nobody's but the client's.
    named = pending(commit(top_node="c", base_node="a", filter_node_name="F"))
    for end, last in (("done", FINALIZE), ("cancelled", CANCEL)):
        users = [qcow2("e", "F"), qcow2("x", "F", read_only=True)]
        scenario(f"overlays-of-filter-{end}", named, users, last, read("e"), read("d"), DEEP)
        users = [qcow2("e", "b"), qcow2("x", "c")]
        scenario(f"overlays-of-images-{end}", named, users, last, read("e"), read("x"), read("d"))
        readers = [SERVER, named, export("F"), export("b"), export("a")]
        scenario(f"exported-filter-{end}", readers, last, DEEP)
    scenario("snapshot-of-filter", E, named, snapshot("F", "e"), FINALIZE, read("d"), DEEP)
    scenario("filter-taken-out", named, reopen("d", backing="c"), FINALIZE)
    scenario("overlay-taken-away", pending(STARTS["commit-b-a"]), reopen("d"), delete("c"))
    scenario(
        "overlay-goes",
        pending(STARTS["commit-b-a"]),
        reopen("d", backing=None),
        opened=[add(inline())],
    )
    above = pending(stream(filter_node_name="F"))
    scenario(
        "above-stream",
        above,
        qcow2("e", "F"),
        *(commit("k", device="e", **where) for where in ({"top_node": "d"}, {"base_node": "F"})),
        *(stream("k", device="e", **{how: n}) for how, n in (("base_node", "F"), ("bottom", "e"))),
        FINALIZE,
        read("e"),
        read("d"),
    )
    frozen = add(node("copy-on-read", "co", file="d", bottom="b"))
    scenario("below-copy-on-read", frozen, *STARTS.values(), commit(device="co", top_node="b"))
    for kind, start in (("commit", named), ("stream", above)):
        filters = [
            add(node("copy-on-read", f"co{bottom}", file="F", bottom=bottom)) for bottom in CHAIN
        ]
        scenario(f"copy-on-read-of-{kind}", start, filters, FINALIZE, DEEP)


def _permissions() -> None:
    for perm in PERMISSIONS:
        takes = {"take-child-perms": [perm]}
        unshares = {"unshare-child-perms": [perm]}
        for verb, options in (("takes", takes), ("unshares", unshares)):
            tries: Commands = []
            for start in STARTS.values():
                tries += [pending(start), CANCEL]
            scenario(f"user-{verb}-{perm}", debug("g", "b", **options), tries, DEEP)
        for kind in ("commit-c-b", "stream-c"):
            start = pending(STARTS[kind])
            start["arguments"]["filter-node-name"] = "F"
            users = [debug(f"t{n}", n, **takes) for n in (*CHAIN, "F")]
            users += [debug(f"u{n}", n, **unshares) for n in (*CHAIN, "F")]
            scenario(f"{kind}-and-{perm}", start, users, FINALIZE, DEEP)


# Filters and sizes


FILTERS: dict[str, Callable[[str, str], Command]] = {
    "throttle": throttle,
    "copy-on-read": lambda name, child: add(node("copy-on-read", name, file=child)),
    "preallocate": lambda name, child: add(node("preallocate", name, file=child)),
    "blkdebug": debug,
}

AMONG_FILTERS = {
    "images": commit(top_node="c", base_node="b"),
    "filters": commit(top_node="t3", base_node="t1"),
    "one-filter": commit(top_node="t2", base_node="b"),
    "filter-and-base": commit(top_node="t2", base_node="a"),
    "filter-below": commit(top_node="c", base_node="t2"),
    "file": commit(top="c.qcow2", base="a.qcow2"),
    "stream": stream(base_node="b"),
    "stream-to-filter": stream(base_node="t2"),
    "stream-filter": stream(device="t3"),
    "stream-filter-bottom": stream(device="t3", bottom="b"),
    "stream-within": stream(device="t3", base_node="c"),
}


def _filters() -> None:
    for (kind, make), (name, start) in product(FILTERS.items(), AMONG_FILTERS.items()):
        opened = [
            GROUP,
            qcow2("a", None),
            make("t1", "a"),
            qcow2("b", "t1"),
            make("t2", "b"),
            qcow2("c", "t2"),
            make("t3", "c"),
            qcow2("d", "t3"),
        ]
        scenario(f"{kind}-{name}", pending(start), DEEP, FINALIZE, read("d"), DEEP, opened=opened)


SIZES = {
    "growing": {"a": MIB, "b": 2 * MIB, "c": 2 * MIB, "d": 3 * MIB},
    "shrinking": {"a": 2 * MIB, "b": MIB, "c": MIB, "d": 512 * KIB},
    "odd": {"a": 3 * MIB + 512, "b": MIB + 1024, "c": 2 * MIB + 1536, "d": 2 * MIB + 512},
    "small": {"a": 100 * KIB + 512, "b": MIB - 512, "c": 300 * KIB, "d": MIB},
    "tiny": {"a": 512, "b": 1024, "c": CLUSTER + 512, "d": CLUSTER},
    "two-tables": {"a": 1024 * MIB, "b": 1024 * MIB, "c": 1025 * MIB, "d": 1025 * MIB},
}

WINDOWS: dict[str, dict[str, int]] = {
    "whole": {},
    "offset": {"offset": 512},
    "fixed": {"size": MIB - 1024},
}


def _sizes() -> None:
    for (which, sizes), (name, start) in product(SIZES.items(), STARTS.items()):
        images = chain(sizes)
        scenario(f"{which}-{name}", pending(start), FINALIZE, read("d"), DEEP, images=images)
        scenario(f"{which}-{name}-slow", slow(start), RESUME, PAUSE, FAST, RESUME, images=images)
    for (which, window), (name, start) in product(WINDOWS.items(), STARTS.items()):
        raw = add(node("raw", "a", file=file("a.raw", "af"), **window))
        opened = [raw, *nodes()[1:]]
        for size in (MIB, 100 * KIB):
            images = chain({"a": size}, base="a.raw")
            if size == MIB or which == "whole":
                label = f"raw-{which}-{size // KIB}-{name}"
                scenario(label, pending(start), FINALIZE, read("d"), images=images, opened=opened)


def _errors() -> None:
    """The base becomes shorter while a commit is paused, and what that does about its error."""
    images = chain(base="a.raw")
    raw = node("raw", "a", file="af")
    opened = [add({**raw, "file": file("a.raw", "af")}), *nodes()[1:]]
    short, whole = (reopen_all({**raw, "size": size}) for size in (512, MIB))
    for policy in ("report", "stop", "enospc", "auto"):
        for kind in ("middle", "active"):
            top = {"top_node": "b"} if kind == "middle" else {}
            paused = slow(commit(on_error=policy, **top))
            if kind == "active":
                top_filter = commit(on_error=policy, filter_node_name="flt")
                paused = [top_filter, PAUSE, qmp(WRITE, **_HALF)]
            scenario(
                f"error-{policy}-{kind}",
                *paused,
                short,
                RESUME,
                RESUME,
                whole,
                RESUME,
                CANCEL,
                images=images,
                opened=opened,
            )


_HALF = {"node": "flt", "offset": MIB // 2, "length": CLUSTER, "pattern": 77}

for _write in (
    _lives,
    _refused,
    _names,
    _read_only,
    _between,
    _permissions,
    _filters,
    _sizes,
    _errors,
):
    _write()
