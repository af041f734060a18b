# SPDX-License-Identifier: GPL-2.0-or-later
"""Hand-written scenarios with mirrors, active commits and backups, as image files and commands.

Where a trace has to wait for a job is put in when it is run (:func:`checker.settling.settled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.values.trace import READ, WRITE
from model.values.trace import Trace
from tests.real.scenarios import KIB, MIB, add, file, image, node, qmp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.values.trace import Command, ImageSpec

CLUSTER = 64 * KIB

MIRROR_SCENARIOS: dict[str, Trace] = {}


def data(spec: ImageSpec, *runs: tuple[int, int, int]) -> ImageSpec:
    """An image that has data: runs of offset, length and pattern."""
    return attrs.evolve(spec, data=runs)


def qcow2(name: str, **more: Any) -> Command:
    """Add the qcow2 node a on a.qcow2, its file being called af."""
    return add(node("qcow2", name, file=file(f"{name}.qcow2", f"{name}f"), **more))


def mirror(**more: Any) -> Command:
    """blockdev-mirror of b to t, in full."""
    return qmp(
        "blockdev-mirror", **{"job_id": "j", "device": "b", "target": "t", "sync": "full"} | more
    )


def backup(**more: Any) -> Command:
    """blockdev-backup of b to t, which copies what is about to be overwritten."""
    return qmp(
        "blockdev-backup", **{"job_id": "j", "device": "b", "target": "t", "sync": "none"} | more
    )


def commit(**more: Any) -> Command:
    """block-commit of b, which is in use."""
    return qmp("block-commit", **{"job_id": "j", "device": "b"} | more)


def write(name: str, offset: int, length: int, pattern: int) -> Command:
    """A guest writes."""
    return qmp(WRITE, node=name, offset=offset, length=length, pattern=pattern)


def read(name: str) -> Command:
    """A guest reads all of a node."""
    return qmp(READ, node=name)


def delete(name: str) -> Command:
    """blockdev-del."""
    return qmp("blockdev-del", node_name=name)


def reopen(name: str, **more: Any) -> Command:
    """blockdev-reopen of a qcow2 node with its file by reference."""
    return qmp("blockdev-reopen", options=[node("qcow2", name, file=f"{name}f", **more)])


JOBS = qmp("query-jobs")
COMPLETE = qmp("job-complete", id="j")
CANCEL = qmp("block-job-cancel", device="j")
FORCE = qmp("job-cancel", id="j")
PAUSE = qmp("job-pause", id="j")
RESUME = qmp("job-resume", id="j")
FINALIZE = qmp("job-finalize", id="j")
DISMISS = qmp("job-dismiss", id="j")
ENDS = {"complete": COMPLETE, "cancel": CANCEL, "force": FORCE}

IMAGES = (
    data(image("a.qcow2"), (0, 2 * CLUSTER, 1)),
    data(image("b.qcow2", backing="a.qcow2"), (3 * CLUSTER, CLUSTER, 2), (5 * CLUSTER, 100, 3)),
    image("t.qcow2"),
    image("u.qcow2"),
    image("v.qcow2"),
    image("w.qcow2"),
)
NODES = (qcow2("a"), qcow2("b", backing="a"), *(qcow2(name) for name in "tuvw"))


def scenario(
    name: str,
    *commands: Command,
    images: Iterable[ImageSpec] = IMAGES,
    nodes: Iterable[Command] = NODES,
) -> None:
    """Keep a scenario."""
    MIRROR_SCENARIOS[name] = Trace(tuple(images), (*nodes, *commands))


def _lives() -> None:
    """Every job from its beginning to every end."""
    starts = {f"mirror-{sync}": mirror(sync=sync) for sync in ("full", "top", "none")}
    starts["commit"] = commit()
    for kind, start in starts.items():
        for named in ({}, {"filter-node-name": "flt"}):
            own = {**start, "arguments": {**start["arguments"], **named}}
            held = {"auto-finalize": False, "auto-dismiss": False}
            slow = {**own, "arguments": {**own["arguments"], **held}}
            where = "-named" * bool(named)
            for ending, end in ENDS.items():
                scenario(f"{kind}{where}-{ending}", own, end, JOBS, read("t"), read("a"))
                scenario(
                    f"{kind}{where}-{ending}-manual", slow, end, JOBS, FINALIZE, DISMISS, read("t")
                )
                scenario(f"{kind}{where}-{ending}-paused", slow, PAUSE, end, JOBS, RESUME, FINALIZE)
    for sync in ("full", "top", "none"):
        for source in "ab":
            scenario(f"backup-{sync}-{source}", backup(sync=sync, device=source), FORCE, read("t"))
        start = backup(sync=sync, auto_finalize=False, auto_dismiss=False, filter_node_name="flt")
        scenario(f"backup-{sync}-manual", start, JOBS, FINALIZE, FORCE, DISMISS)
    scenario("backup-paused", backup(), PAUSE, COMPLETE, RESUME, CANCEL)


def _refusals() -> None:
    """Whatever is wrong with the arguments, in the order in which it is looked at."""
    scenario(
        "mirror-refused",
        *(
            mirror(**wrong)
            for wrong in (
                {"device": "z", "target": "z"},
                {"device": "a", "target": "z"},
                {"target": "z", "granularity": 1},
                {"granularity": 1, "target": "a"},
                {"granularity": 600, "target": "a"},
                {"target": "a", "replaces": "z"},
                {"replaces": "z", "sync": "bitmap"},
                {"replaces": "t", "sync": "bitmap"},
                {"replaces": "a"},
                {"sync": "bitmap", "buf_size": -1},
                {"buf_size": -1, "target": "b"},
                {"target": "b", "filter_node_name": "a"},
                {"filter_node_name": "a", "job_id": "1"},
                {"job_id": "1", "speed": -1},
                {"speed": -1, "target": "bf"},
                {"target": "bf"},
            )
        ),
    )
    scenario(
        "backup-refused",
        *(
            backup(**wrong)
            for wrong in (
                {"device": "z", "target": "z"},
                {"target": "z"},
                {"sync": "bitmap", "target": "b"},
                {"sync": "incremental", "bitmap": "x", "bitmap_mode": "never"},
                {"bitmap": "x"},
                {"bitmap_mode": "never"},
                {"target": "b"},
                {"target": "af", "compress": True},
                {"x_perf": {"max-workers": 0}, "target": "vf"},
                {"x_perf": {"max-chunk": -1}},
                {"target": "af", "x_perf": {"max-chunk": 1}},
                {"x_perf": {"max-chunk": 1}, "job_id": "1"},
                {"filter_node_name": "a", "job_id": "1"},
                {"job_id": "1", "speed": -1},
                {"speed": -1},
                {"device": "a", "target": "b"},
            )
        ),
    )


def _disturbances() -> None:
    """Bumping into a job that is alive."""
    raw = {"driver": "raw", "file": "b"}
    pokes = (
        reopen("b", backing="a", lazy_refcounts=True),
        reopen("b", backing=None),
        reopen("b", backing="u"),
        reopen("t", read_only=True),
        reopen("a", read_only=True),
        qmp("blockdev-reopen", options=[node("raw", "flt", file="b")]),
        *(delete(name) for name in ("flt", "b", "t", "a", "bf")),
        *(qmp("blockdev-snapshot", node=name, overlay="v") for name in ("b", "flt", "t", "a")),
        mirror(job_id="k", device="flt", target="v"),
        mirror(job_id="k", device="v", target="t"),
        mirror(job_id="k", device="v", target="b"),
        mirror(device="v", target="w"),
        qmp("block-commit", job_id="k", device="flt"),
        qmp("block-stream", job_id="k", device="b"),
        backup(job_id="k", device="a", target="v"),
        backup(job_id="k", device="w", target="flt"),
        *(qmp("block_resize", node_name=name, size=2 * MIB) for name in ("b", "flt", "t", "a")),
        add(node("raw", "x1", file="flt")),
        delete("x1"),
        add({"node-name": "x2", **raw}),
        delete("x2"),
        add(node("copy-on-read", "x3", file="flt", bottom="a")),
        delete("x3"),
    )
    starts = {
        "mirror": mirror(filter_node_name="flt"),
        "mirror-blocking": mirror(filter_node_name="flt", copy_mode="write-blocking"),
        "commit": commit(filter_node_name="flt"),
        "backup": backup(filter_node_name="flt"),
    }
    for kind, start in starts.items():
        end = FORCE if kind == "backup" else COMPLETE
        scenario(f"disturbed-{kind}", start, *pokes, end, JOBS)


def _sizes() -> None:
    images = (
        data(image("a.qcow2"), (0, 2 * CLUSTER, 1)),
        data(image("b.qcow2", 2 * MIB, backing="a.qcow2"), (3 * CLUSTER, CLUSTER, 2)),
        image("t.qcow2"),
        image("n.qcow2", 0),
        image("m.qcow2", 0),
        data(image("o.qcow2", 100 * KIB), (CLUSTER, 1000, 5)),
        image("p.qcow2", 100 * KIB),
        data(image("r.raw", 100 * KIB), (5000, 2000, 7)),
    )
    raw = add(node("raw", "r", file=file("r.raw", "rf")))
    nodes = (qcow2("a"), qcow2("b", backing="a"), *(qcow2(name) for name in "tnmop"), raw)
    some: dict[str, Any] = {"images": images, "nodes": nodes}
    scenario("sizes-mirror", mirror(auto_dismiss=False), JOBS, DISMISS, **some)
    scenario("sizes-backup", backup(), **some)
    scenario("sizes-commit", commit(), COMPLETE, read("a"), **some)
    scenario("sizes-commit-cancel", commit(), CANCEL, read("a"), **some)
    for source, target in (("n", "m"), ("o", "p"), ("r", "p"), ("o", "r")):
        ends = {"device": source, "target": target}
        scenario(f"mirror-{source}{target}", mirror(**ends), PAUSE, COMPLETE, RESUME, **some)
        scenario(f"mirror-top-{source}{target}", mirror(sync="top", **ends), CANCEL, **some)
        for sync in ("full", "top", "none"):
            scenario(f"backup-{sync}-{source}{target}", backup(sync=sync, **ends), FORCE, **some)


def _guests() -> None:
    """A guest writes while jobs are alive."""
    writes = (write("flt", 7 * CLUSTER, 1000, 9), JOBS, write("flt", 7 * CLUSTER + 500, 3000, 8))
    for mode in ("background", "write-blocking"):
        start = mirror(copy_mode=mode, filter_node_name="flt")
        rest = (write("flt", 0, MIB, 4), JOBS, COMPLETE, read("t"))
        scenario(f"guest-{mode}", start, *writes, *rest)
        scenario(f"guest-{mode}-paused", start, PAUSE, *writes, JOBS, RESUME, CANCEL, read("t"))
        scenario(f"guest-{mode}-below", start, write("b", CLUSTER, 5, 9), JOBS, CANCEL, read("t"))
        none = mirror(copy_mode=mode, filter_node_name="flt", sync="none")
        scenario(f"guest-{mode}-none", none, *writes, JOBS, CANCEL, read("t"))
    scenario("guest-commit", commit(filter_node_name="flt"), *writes, COMPLETE, read("a"))
    for sync in ("full", "top", "none"):
        start = backup(filter_node_name="flt", sync=sync, auto_finalize=False)
        scenario(f"guest-backup-{sync}", start, *writes, JOBS, PAUSE, *writes, FORCE, read("t"))


def _replacements() -> None:
    """Other nodes than the source are replaced."""
    images = (*(data(image(f"{name}.qcow2"), (0, 70_000, 1)) for name in "abc"), *IMAGES[2:])
    quorum = add(node("quorum", "q", vote_threshold=2, children=["a", "b", "c"]))
    some: dict[str, Any] = {
        "images": images,
        "nodes": (*(qcow2(name) for name in "abctuv"), quorum),
    }
    for replaced in ("a", "q", "t", "af", "u"):
        start = mirror(device="q", replaces=replaced)
        scenario(f"replace-{replaced}", start, COMPLETE, JOBS, read("q"), **some)
    start = mirror(device="q", replaces="a", auto_finalize=False)
    change = qmp("x-blockdev-change", parent="q", child="children.0")
    scenario("replace-gone", start, change, delete("a"), COMPLETE, CANCEL, **some)
    scenario("replace-orphan", start, change, COMPLETE, FINALIZE, **some)
    scenario("replace-shared", start, add(node("raw", "r", file="a")), COMPLETE, FINALIZE, **some)
    bumps = (delete("a"), qmp("blockdev-snapshot", node="a", overlay="u"), change)
    scenario("replace-busy", start, PAUSE, COMPLETE, *bumps, RESUME, FINALIZE, delete("a"), **some)
    scenario("replace-forced", start, PAUSE, COMPLETE, FORCE, delete("a"), **some)


def _filters() -> None:
    """Sources, targets and bases with filters."""
    group = qmp("object-add", qom_type="throttle-group", id="g")
    for driver in ("throttle", "copy-on-read", "raw", "blkdebug", "preallocate"):
        child = "image" if driver == "blkdebug" else "file"
        more = {"throttle_group": "g"} if driver == "throttle" else {}

        def above(
            below: str, driver: str = driver, child: str = child, more: dict[str, Any] = more
        ) -> Command:
            return add(node(driver, "f", **{child: below}, **more))

        some: dict[str, Any] = {"nodes": (group, *NODES)}
        for replaced in ("b", "f", "a"):
            start = mirror(device="f", replaces=replaced)
            scenario(f"{driver}-replace-{replaced}", above("b"), start, COMPLETE, JOBS, **some)
        for sync in ("full", "top"):
            scenario(f"{driver}-{sync}", above("b"), mirror(device="f", sync=sync), CANCEL, **some)
            scenario(f"{driver}-backup-{sync}", above("b"), backup(device="f", sync=sync), **some)
        scenario(f"{driver}-target", above("t"), mirror(target="f"), COMPLETE, read("t"), **some)
        scenario(f"{driver}-itself", above("b"), mirror(device="f", target="b"), **some)
        scenario(f"{driver}-on-chain", above("a"), mirror(target="f"), **some)
        base: dict[str, Any] = {"nodes": (group, qcow2("a"), above("a"), qcow2("b", backing="f"))}
        for name in ("f", "a"):
            start = commit(base_node=name)
            scenario(f"{driver}-commit-{name}", start, COMPLETE, read("a"), **base)
        for sync in ("full", "top"):
            start = mirror(target="a", sync=sync)
            scenario(f"{driver}-mirror-below-{sync}", start, COMPLETE, **base)


def _zeroes() -> None:
    """What is zero, and what is known to be."""
    holes = ((CLUSTER, CLUSTER, 2), (3 * CLUSTER, CLUSTER, 0), (5 * CLUSTER + 10, 100, 5))
    images = (
        data(image("a.qcow2"), (0, MIB, 1)),
        data(image("b.qcow2", backing="a.qcow2"), *holes),
        data(image("r.raw"), (4096, 8192, 3), (300_000, 1000, 4), (500_000, 5000, 0)),
        image("t.qcow2"),
        data(image("u.qcow2"), (0, MIB, 9)),
        image("v.qcow2", backing="a.qcow2"),
    )
    raw = add(node("raw", "r", file=file("r.raw", "rf")))
    null = add(node("null-co", "n", size=MIB, read_zeroes=True))
    nodes = (qcow2("a"), qcow2("b", backing="a", detect_zeroes="on"), raw, null)
    targets = {
        "plain": qcow2("t"),
        "detecting": qcow2("t", detect_zeroes="on"),
        "unmapping": qcow2("t", discard="unmap", detect_zeroes="unmap"),
        "full": add(node("qcow2", "t", file=file("u.qcow2", "tf"), discard="unmap")),
        "bare": add(node("qcow2", "t", file=file("v.qcow2", "tf"), backing=None)),
    }
    writes = (write("flt", 10 * CLUSTER, CLUSTER, 0), write("flt", 12 * CLUSTER + 5, 10, 6))
    for kind, target in targets.items():
        some: dict[str, Any] = {"images": images, "nodes": (*nodes, target)}
        for source in "brn":
            for sync in ("full", "top"):
                start = mirror(device=source, sync=sync, filter_node_name="flt")
                scenario(f"zero-{kind}-{source}-{sync}", start, *writes, CANCEL, read("t"), **some)
                start = backup(device=source, sync=sync, filter_node_name="flt")
                scenario(f"zero-{kind}-{source}-backup-{sync}", start, read("t"), **some)
        for granularity in (512, 4096, 256 * KIB):
            start = mirror(granularity=granularity, filter_node_name="flt")
            scenario(f"zero-{kind}-{granularity}", start, *writes, CANCEL, read("t"), **some)


for _make in (
    _lives,
    _refusals,
    _disturbances,
    _sizes,
    _guests,
    _replacements,
    _filters,
    _zeroes,
):
    _make()
