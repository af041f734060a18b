# SPDX-License-Identifier: GPL-2.0-or-later
"""Hand-written scenarios: what an expert client would try, as image files and commands.

They go where the generator does not: whole tables of one option in every state, children
given in one way and then in the other, exchanges and cycles over one list, odd sizes.
"""

from __future__ import annotations

from itertools import combinations, permutations, product
from typing import Any

from model.values.trace import Command, ImageSpec, Trace

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

Options = dict[str, Any]

SCENARIOS: dict[str, Trace] = {}


# Builders


def image(
    name: str, size: int = MIB, backing: str | None = None, backing_format: str | None = "qcow2"
) -> ImageSpec:
    """An image file, raw if its name ends so."""
    return ImageSpec(
        name,
        "raw" if name.endswith("raw") else "qcow2",
        size,
        backing,
        backing_format if backing else None,
    )


def node(driver: str, name: str | None = None, **more: Any) -> Options:
    """The options of a node; underscores in their names stand for dashes."""
    named = {} if name is None else {"node-name": name}
    return {"driver": driver, **named, **{key.replace("_", "-"): v for key, v in more.items()}}


def file(filename: str, name: str | None = None, **more: Any) -> Options:
    """A file node."""
    return node("file", name, filename=filename, **more)


def hd(index: int, **more: Any) -> Options:
    """The node hd0 with its file inline, which is called hd0-file."""
    return node("qcow2", f"hd{index}", file=file(f"hd{index}.qcow2", f"hd{index}-file"), **more)


def hd_by_reference(index: int, **more: Any) -> Options:
    """The node hd0 with its file by reference."""
    return node("qcow2", f"hd{index}", file=f"hd{index}-file", **more)


def hd_unnamed(index: int, **more: Any) -> Options:
    """The node hd0 with its file inline and without a name."""
    return node("qcow2", f"hd{index}", file=file(f"hd{index}.qcow2"), **more)


def qmp(execute: str, **arguments: Any) -> Command:
    """A command; underscores in the names of arguments stand for dashes."""
    return {
        "execute": execute,
        "arguments": {key.replace("_", "-"): value for key, value in arguments.items()},
    }


def add(options: Options) -> Command:
    """blockdev-add."""
    return {"execute": "blockdev-add", "arguments": options}


def reopen(*options: Options) -> Command:
    """blockdev-reopen of these nodes."""
    return qmp("blockdev-reopen", options=list(options))


def delete(name: str) -> Command:
    """blockdev-del."""
    return qmp("blockdev-del", node_name=name)


def snapshot(name: str, overlay: str) -> Command:
    """blockdev-snapshot."""
    return qmp("blockdev-snapshot", node=name, overlay=overlay)


def resize(name: str, size: int) -> Command:
    """block_resize."""
    return qmp("block_resize", node_name=name, size=size)


def change(parent: str, **what: str) -> Command:
    """x-blockdev-change."""
    return qmp("x-blockdev-change", parent=parent, **what)


NESTED = qmp("query-named-block-nodes")
GROUP = qmp("object-add", qom_type="throttle-group", id="g")
GROUP_2 = qmp("object-add", qom_type="throttle-group", id="g2")

PLAIN = (image("hd0.qcow2"), image("hd1.qcow2"), image("hd2.qcow2"))
CHAIN = (
    image("hd0.qcow2"),
    image("hd1.qcow2", backing="hd0.qcow2"),
    image("hd2.qcow2", backing="hd1.qcow2"),
)


def scenario(name: str, images: tuple[ImageSpec, ...], *commands: Command) -> None:
    """Remember a scenario."""
    if name in SCENARIOS:
        raise ValueError(f"two scenarios are called {name!r}")
    SCENARIOS[name] = Trace(images, commands)


# `backing` in every state of the image and of the node


def backing() -> None:
    at_add: dict[str, Options] = {
        "omitted": {},
        "null": {"backing": None},
        "by reference": {"backing": "hd0"},
        "inline": {"backing": hd(0)},
    }
    at_reopen: dict[str, Options] = {
        "omitted": {},
        "null": {"backing": None},
        "by reference": {"backing": "hd0"},
        "another": {"backing": "hd2"},
        "inline": {"backing": hd(0)},
        "inline, unnamed": {"backing": hd_unnamed(0)},
        "inline, changed": {"backing": hd(0, lazy_refcounts=True)},
        "inline, writable": {"backing": hd(0, read_only=False)},
        "itself": {"backing": "hd1"},
        "nothing there": {"backing": "nosuch"},
        "empty name": {"backing": ""},
    }
    for (images, in_image), (before, given), (after, then) in product(
        ((PLAIN, "none"), (CHAIN, "one")), at_add.items(), at_reopen.items()
    ):
        first = (add(hd(0)),) if before in {"null", "by reference"} else ()
        scenario(
            f"backing: {in_image} in the image, {before}, then {after}",
            images,
            *first,
            add(hd(2, backing=None)),
            add(hd(1, **given)),
            reopen(hd(1, **then)),
            reopen(hd(1, **then)),
            reopen(hd_by_reference(1, **then)),
            reopen(hd(1, backing=None)),
            reopen(hd(1)),
            NESTED,
            delete("hd1"),
            delete("hd2"),
            delete("hd0"),
        )


def chains() -> None:
    whole = hd(2, backing=hd(1, backing=hd(0)))
    scenario(
        "chain: overlays move",
        PLAIN,
        add(hd(0)),
        add(hd(1)),
        add(hd(2, backing="hd1")),
        reopen(hd(2, backing="hd0")),
        reopen(hd(2, backing="hd1"), hd(1, backing="hd0")),
        NESTED,
        reopen(hd(1, backing=None), hd(2, backing="hd0")),
        reopen(hd(2, backing="hd1"), hd(1, backing="hd2")),
        reopen(hd(1, backing="hd2"), hd(2, backing=None)),
        reopen(hd(2, backing=None), hd(1, backing="hd2")),
        NESTED,
        reopen(hd(2, backing="hd1"), hd(1, backing=None)),
        reopen(hd(1, backing=None), hd(2, backing="hd1")),
    )
    scenario(
        "chain: inline on three levels",
        PLAIN,
        add(whole),
        reopen(whole),
        reopen(hd(2, backing=hd(1, backing=hd(0, cache={"direct": True})))),
        reopen(hd(2, backing=hd(1, backing=None))),
        reopen(hd(2, backing=hd(1))),
        reopen(whole),
        NESTED,
        reopen(hd(2, backing=hd(1, backing="hd0"))),
        reopen(hd(2, backing=None)),
    )
    scenario(
        "chain: the middle is left out",
        PLAIN,
        add(whole),
        reopen(hd(2, backing="hd0")),
        reopen(hd(2, backing="hd1")),
        delete("hd2"),
    )
    top = node("qcow2", "top", file=file("hd2.qcow2"))
    below = node("qcow2", file=file("hd1.qcow2"))
    scenario(
        "chain: from the images alone",
        CHAIN,
        add(top),
        NESTED,
        reopen(top),
        reopen({**top, "backing": below}),
        reopen({**top, "backing": {**below, "backing": node("qcow2", file=file("hd0.qcow2"))}}),
        reopen({**top, "backing": None}),
        NESTED,
        reopen(top),
    )
    scenario(
        "chain: a cycle over one list",
        PLAIN,
        add(hd(0)),
        add(hd(1)),
        reopen(hd(0, backing="hd1"), hd(1, backing="hd0")),
        reopen(hd(1, backing="hd0"), hd(0, backing="hd1")),
        reopen(hd(0, backing="hd1")),
        reopen(hd(1, backing="hd0"), hd(0, backing=None)),
        reopen(hd(0, backing=None), hd(1, backing="hd0")),
        NESTED,
    )
    scenario(
        "chain: one node twice in a list",
        PLAIN,
        add(hd(0)),
        add(hd(1)),
        add(hd(2, backing="hd0")),
        reopen(hd(2, backing="hd1"), hd(2, backing="hd0")),
        reopen(hd(2, backing=None), hd(2, backing="hd1")),
        reopen(hd(2), hd(2, backing=None)),
        reopen(hd(2, backing=None), hd(2)),
        NESTED,
    )


def backing_names() -> None:
    top = node("qcow2", "t", file=file("t.qcow2", "tf"))
    for name, backing_format in (
        ("nope.qcow2", "qcow2"),
        ("hd0.qcow2", None),
        ("hd0.qcow2", "raw"),
        ("a.raw", "raw"),
        ("a.raw", "qcow2"),
        ("a.raw", None),
        ("t.qcow2", "qcow2"),
    ):
        scenario(
            f"backing name: {name} as {backing_format}",
            (
                image("hd0.qcow2"),
                image("a.raw"),
                image("t.qcow2", backing=name, backing_format=backing_format),
            ),
            add(top),
            NESTED,
            add({**top, "backing": None}),
            NESTED,
            reopen(top),
            reopen({**top, "backing": None}),
            add(hd(0)),
            reopen({**top, "backing": "hd0"}),
            NESTED,
            delete("t"),
            add({**top, "backing": node("raw", "b", file=file("a.raw"))}),
            NESTED,
            reopen({**top, "backing": node("raw", file=file("a.raw"))}),
            delete("t"),
            add(top),
        )
    scenario(
        "backing name: as long as several names of one file",
        PLAIN,
        add(node("qcow2", "a", file=file("hd0.qcow2"))),
        add(node("qcow2", "b", file=file("./hd0.qcow2"))),
        add(node("qcow2", "c", file=file(".//hd1.qcow2"))),
        NESTED,
        reopen(node("qcow2", "c", file=file("hd1.qcow2"))),
        reopen(node("qcow2", "c", file=file(".//hd1.qcow2"), read_only=True)),
    )


# Filters

FILTERS: tuple[tuple[str, str, Options], ...] = (
    ("throttle", "file", {"throttle-group": "g"}),
    ("compress", "file", {}),
    ("copy-on-read", "file", {}),
    ("preallocate", "file", {}),
    ("raw", "file", {}),
    ("blkdebug", "image", {}),
)


def filters() -> None:
    for driver, child, own in FILTERS:

        def flt(below: Any, /, driver: str = driver, child: str = child, **more: Any) -> Options:
            return {**node(driver, "flt", **more), child: below, **own}  # noqa: B023

        scenario(
            f"{driver}: put over a file",
            PLAIN,
            GROUP,
            add(file("hd0.qcow2", "pf")),
            add(node("qcow2", "q", file="pf")),
            add(flt("pf")),
            reopen(node("qcow2", "q", file="flt")),
            NESTED,
            reopen(node("qcow2", "q", file="pf")),
            reopen(node("qcow2", "q", file="flt"), flt("pf")),
            delete("flt"),
            delete("pf"),
        )
        scenario(
            f"{driver}: put over a backing file",
            PLAIN,
            GROUP,
            add(hd(0, read_only=True)),
            add(hd(1, backing="hd0")),
            add(flt("hd0", read_only=True)),
            reopen(hd(1, backing="flt")),
            NESTED,
            reopen(hd(1, backing="hd0")),
            reopen(hd(1, backing="flt")),
            reopen(hd(1, backing=None)),
            delete("flt"),
            delete("hd0"),
        )
        scenario(
            f"{driver}: moves to another child",
            PLAIN,
            GROUP,
            add(hd(0)),
            add(hd(1)),
            add(flt("hd0")),
            reopen(flt("hd1")),
            NESTED,
            reopen(flt(None)),
            reopen(flt("flt")),
            reopen(flt(hd(1))),
            reopen(flt("hd1", backing="hd0")),
            reopen(flt("nosuch")),
        )
        scenario(
            f"{driver}: its child inline",
            PLAIN,
            GROUP,
            add(flt(hd(0))),
            add(hd(1)),
            reopen(flt(hd(0))),
            reopen(flt("hd0")),
            reopen(flt("hd1")),
            NESTED,
            reopen(flt(hd(1))),
            reopen(flt("hd1", read_only=True)),
            reopen(flt(hd(0), discard="unmap", detect_zeroes="unmap")),
        )
        scenario(
            f"{driver}: resized",
            PLAIN,
            GROUP,
            add(flt(hd(0))),
            *(resize("flt", size) for size in (2 * MIB, 512, 0, 513 * MIB, 1000, MIB)),
            NESTED,
        )
        scenario(
            f"{driver}: resized from above",
            PLAIN,
            GROUP,
            add(node("qcow2", "q", file=flt(file("hd0.qcow2", "pf")))),
            *(resize("q", size) for size in (2 * MIB, 512, 0, 513 * MIB, 2 * GIB, MIB)),
            *(resize("flt", size) for size in (2 * MIB, 0)),
            NESTED,
        )


def exchanges() -> None:
    def throttle(name: str, below: str) -> Options:
        return node("throttle", name, throttle_group="g", file=below)

    scenario(
        "exchange: the children of two filters",
        PLAIN,
        GROUP,
        add(hd(0)),
        add(hd(1)),
        add(throttle("t0", "hd0")),
        add(throttle("t1", "hd1")),
        reopen(throttle("t0", "hd1"), throttle("t1", "hd0")),
        NESTED,
        reopen(throttle("t0", "t1"), throttle("t1", "t0")),
        reopen(throttle("t0", "t1"), throttle("t1", "hd1")),
        reopen(throttle("t1", "t0"), throttle("t0", "hd1")),
        NESTED,
        reopen(throttle("t0", "hd1"), throttle("t1", "t0")),
    )
    for driver in ("raw", "qcow2"):
        scenario(
            f"exchange: the files of two {driver} nodes",
            PLAIN,
            add(file("hd0.qcow2", "f0")),
            add(file("hd1.qcow2", "f1")),
            add(node(driver, "n0", file="f0")),
            add(node(driver, "n1", file="f1")),
            reopen(node(driver, "n0", file="f1"), node(driver, "n1", file="f0")),
            reopen(node(driver, "n0", file="f1")),
            reopen(node(driver, "n1", file="f1"), node(driver, "n0", file="f0")),
            NESTED,
        )
    read_only = (
        hd(0, read_only=True),
        hd(1, backing="hd0", read_only=True),
        {**throttle("t", "hd1"), "read-only": True},
    )
    writable = (hd(0), hd(1, backing="hd0"), throttle("t", "hd1"))
    scenario(
        "exchange: three nodes of a chain in every order",
        PLAIN,
        GROUP,
        add(hd(0)),
        add(hd(1, backing="hd0")),
        add(throttle("t", "hd1")),
        *(reopen(*each) for each in permutations(read_only)),
        *(reopen(*each) for each in permutations(writable)),
        reopen(hd(1, backing=None), throttle("t", "hd0")),
        NESTED,
        reopen(throttle("t", "hd1"), hd(1, backing="hd0")),
        reopen(hd(0, backing="t"), throttle("t", "hd1")),
    )


# Names, references and inline children


def children() -> None:
    scenario(
        "name of a child: left out and given again",
        PLAIN,
        add(hd(0)),
        reopen(hd_unnamed(0)),
        reopen(hd(0)),
        reopen(hd_by_reference(0)),
        reopen(hd(0)),
    )
    scenario(
        "name of a child: another one",
        PLAIN,
        add(hd(0)),
        reopen(node("qcow2", "hd0", file=file("hd0.qcow2", "other"))),
        reopen(node("qcow2", "hd0", file=file("hd1.qcow2", "hd0-file"))),
        reopen(node("qcow2", "hd0", file=node("raw", file=file("hd0.qcow2")))),
        reopen(node("raw", "hd0", file=file("hd0.qcow2"))),
    )
    scenario(
        "child: inline, then by reference",
        PLAIN,
        add(hd(0)),
        reopen(hd_by_reference(0, lazy_refcounts=True)),
        reopen(file("hd0.qcow2", "hd0-file", cache={"direct": True})),
        reopen(hd_by_reference(0)),
        reopen(hd(0)),
    )
    scenario(
        "child: by reference, then inline",
        PLAIN,
        add(file("hd0.qcow2", "hd0-file")),
        add(hd_by_reference(0)),
        reopen(hd(0)),
        reopen(hd_unnamed(0)),
        reopen(hd_by_reference(0)),
    )
    scenario(
        "child: reopened beside its parent",
        PLAIN,
        add(hd(0)),
        reopen(hd(0, lazy_refcounts=True), hd(0)),
        reopen(hd(0, read_only=True), hd(0)),
        reopen(hd(0, cache={"direct": True}), file("hd0.qcow2", "hd0-file")),
        NESTED,
        reopen(file("hd0.qcow2", "hd0-file", cache={"direct": True}), hd(0)),
        NESTED,
        reopen(hd(0), hd(1)),
    )


# Read-only, cache, discard, locks


def flags() -> None:
    choices: tuple[tuple[bool | None, ...], ...] = ((None, True, False),) * 3
    for own, auto, of_child in product(*choices):
        options = {} if own is None else {"read_only": own}
        if auto is not None:
            options["auto_read_only"] = auto
        child = {} if of_child is None else {"read_only": of_child}
        top = node("qcow2", "q", file=file("hd0.qcow2", "pf", **child), **options)
        scenario(
            f"read-only: {own}, auto {auto}, child {of_child}",
            PLAIN,
            add(top),
            add(node("qcow2", "q", file=file("hd0.qcow2", "pf"))),
            reopen(top),
            reopen(node("qcow2", "q", file="pf", read_only=True)),
            reopen(top),
            add(node("raw", "r", file="q")),
            reopen(node("qcow2", "q", file="pf", read_only=True)),
            reopen(file("hd0.qcow2", "pf", **child)),
            reopen(top, node("raw", "r", file="q", read_only=True)),
            reopen(node("raw", "r", file="q", read_only=True), top),
        )
    for first, second in product(("on", "off", "auto"), repeat=2):

        def user(name: str, locking: str, **more: Any) -> Options:
            return node("qcow2", name, file=file("hd0.qcow2", locking=locking), **more)

        scenario(
            f"locking: {first} and {second}",
            PLAIN,
            add(user("a", first)),
            add(user("b", second)),
            add(user("c", second, read_only=True)),
            reopen(user("a", first, read_only=True)),
            add(user("d", second, read_only=True)),
            reopen(user("a", first)),
            reopen(user("a", second)),
        )
    for direct, no_flush in product((None, True, False), (None, True)):
        cache = {
            key: value
            for key, value in (("direct", direct), ("no-flush", no_flush))
            if value is not None
        }
        below = node("qcow2", file=file("hd1.qcow2"), backing=hd_no_name())
        scenario(
            f"cache: direct {direct}, no-flush {no_flush}",
            CHAIN,
            add(node("qcow2", "t", cache=cache, file=file("hd2.qcow2", "tf"))),
            reopen(node("qcow2", "t", file=file("hd2.qcow2", "tf"), backing=below)),
            NESTED,
            reopen(node("qcow2", "t", cache={"direct": True}, file="tf", backing=below)),
            reopen(node("qcow2", "t", cache={}, file=file("hd2.qcow2", cache=cache), backing=None)),
            reopen(file("hd2.qcow2", "tf")),
            reopen(file("hd2.qcow2", "tf", cache=cache, aio="native")),
        )
    for discard, zeroes in product((None, "unmap", "ignore"), (None, "on", "unmap")):
        given = {
            key: value
            for key, value in (("discard", discard), ("detect_zeroes", zeroes))
            if value is not None
        }
        scenario(
            f"discard {discard}, detect-zeroes {zeroes}",
            PLAIN,
            add(hd(0, **given)),
            add(hd(1, discard="unmap", backing=hd(2, **given))),
            reopen(hd(1, backing=hd(2, detect_zeroes="unmap"))),
            reopen(hd(0, detect_zeroes="unmap")),
            reopen(hd(0, discard="unmap")),
            reopen(hd(0, detect_zeroes="unmap")),
            reopen(file("hd0.qcow2", "hd0-file", detect_zeroes="unmap")),
            reopen(hd(0, **given)),
        )


def hd_no_name() -> Options:
    """The bottom of the chain, without any name."""
    return node("qcow2", file=file("hd0.qcow2"))


# Snapshots, quorum, permissions


def snapshots() -> None:
    def throttle(below: str) -> Options:
        return node("throttle", "t", throttle_group="g", file=below)

    scenario(
        "snapshot: one on the other",
        PLAIN,
        add(hd(0)),
        add(hd(1)),
        snapshot("hd0", "hd1"),
        NESTED,
        reopen(hd(1, backing="hd0")),
        reopen(hd(1)),
        reopen(hd(1, backing=None)),
        reopen(hd(0)),
        snapshot("hd0", "hd1"),
        snapshot("hd1", "hd0"),
        snapshot("hd0", "hd0"),
        snapshot("hd0", "hd2"),
        add(hd(2)),
        snapshot("hd1", "hd2"),
        NESTED,
        reopen(hd(2, backing=None)),
        delete("hd1"),
        delete("hd2"),
    )
    scenario(
        "snapshot: users move",
        PLAIN,
        GROUP,
        add(hd(0)),
        add(throttle("hd0")),
        add(hd(1)),
        snapshot("hd0", "hd1"),
        NESTED,
        reopen(throttle("hd0")),
        reopen(throttle("hd1")),
        add(hd(2)),
        snapshot("t", "hd2"),
        NESTED,
        snapshot("hd0", "t"),
        snapshot("hd0", "hd0-file"),
    )
    scenario(
        "snapshot: of a child that inherits",
        (*CHAIN, image("hd3.qcow2")),
        add(hd(2)),
        add(hd(3)),
        snapshot("hd2", "hd3"),
        NESTED,
        reopen(hd(3, backing="hd2")),
        reopen(hd(2)),
        reopen(hd(2, backing=node("qcow2", file=file("hd1.qcow2")))),
    )
    scenario(
        "snapshot: below a quorum",
        (*PLAIN, image("hd3.qcow2")),
        add(quorum(hd(0), hd(1))),
        add(hd(2)),
        snapshot("hd0", "hd2"),
        add(hd(3)),
        snapshot("qu", "hd3"),
        NESTED,
        change("qu", child="children.0"),
        reopen(hd(2, backing=None)),
    )
    scenario(
        "copy-on-read: its chain thaws when it goes",
        CHAIN,
        add(hd(0, read_only=True)),
        add(hd(1, backing="hd0")),
        add(hd(2, backing="hd1")),
        add(node("copy-on-read", "c", file="hd2", bottom="hd0")),
        reopen(hd(2, backing="hd0")),
        reopen(hd(1, backing=None)),
        delete("c"),
        reopen(hd(1, backing=None)),
        reopen(hd(2, backing="hd0")),
    )


def quorum(*members: Any, threshold: int = 1, **more: Any) -> Options:
    """The quorum qu of these members."""
    return node("quorum", "qu", vote_threshold=threshold, children=list(members), **more)


def several() -> None:
    scenario(
        "quorum: members come and go",
        PLAIN,
        add(hd(0)),
        add(hd(1)),
        add(quorum("hd0", "hd1")),
        change("qu", child="children.0"),
        change("qu", node="hd0"),
        change("qu", node="hd0"),
        change("qu", child="children.2"),
        change("qu", node="hd2"),
        add(hd(2)),
        change("qu", node="hd2"),
        change("qu", node="qu"),
        NESTED,
        reopen(quorum("hd0", "hd1")),
        delete("hd1"),
        delete("qu"),
    )
    scenario(
        "quorum: refusals",
        (*PLAIN, image("hd3.qcow2", 2 * MIB)),
        add(quorum(hd(0), hd(3))),
        add(quorum("hd0", threshold=0)),
        add(quorum(hd(0), threshold=2)),
        add(quorum()),
        add(quorum(hd(0), hd(1), threshold=2, blkverify=True, rewrite_corrupted=True)),
        add(quorum(hd(0), hd(1), blkverify=True)),
        add(quorum("hd0", "hd0")),
        add(hd(0)),
        change("hd0", child="file"),
        change("hd0", node="hd0-file"),
        change("hd0"),
        change("hd0", child="a", node="b"),
    )
    scenario(
        "blkverify: what it opens",
        (*PLAIN, image("a.raw")),
        add(node("blkverify", "v", raw=file("a.raw"), test=hd(0))),
        NESTED,
        reopen(node("blkverify", "v", raw=file("a.raw"), test=hd(0))),
        add(node("qcow2", "q", file="v")),
        add(node("raw", "r", read_only=True, file="v")),
        NESTED,
    )
    names = ("consistent-read", "write", "write-unchanged", "resize")
    subsets = [list(c) for size in range(5) for c in combinations(names, size)]
    for index, take in enumerate(subsets):
        unshare = subsets[(index * 7 + 3) % len(subsets)]
        debug = node("blkdebug", "d", image="hd0")
        knobs = {"take-child-perms": take, "unshare-child-perms": unshare}
        scenario(
            f"blkdebug: takes {', '.join(take)}; keeps {', '.join(unshare)}",
            PLAIN,
            add(hd(0)),
            add({**debug, **knobs}),
            add(node("raw", "r", file="hd0")),
            add(hd(1, backing="hd0")),
            add(hd(1, backing="d")),
            resize("hd0", 2 * MIB),
            resize("d", 3 * MIB),
            reopen(hd(0, read_only=True)),
            reopen({**debug, **knobs}),
            reopen(debug),
            NESTED,
        )


# Sizes


def windows() -> None:
    for offset, size in (
        (0, None),
        (512, None),
        (MIB, None),
        (MIB + 512, None),
        (0, 512),
        (0, 0),
        (512, MIB),
        (512, MIB - 512),
        (100, 512),
        (0, 1000),
        (4096, 8192),
    ):
        window = {"offset": offset} if offset else {}
        if size is not None:
            window["size"] = size
        scenario(
            f"raw: offset {offset}, size {size}",
            (image("a.raw"), image("b.raw", 100_000)),
            add(node("raw", "r", file=file("a.raw", "rf"), **window)),
            add(node("raw", "s", file=file("b.raw", "sf"), **window)),
            NESTED,
            reopen(node("raw", "r", file=file("a.raw", "rf"))),
            reopen(node("raw", "s", file="sf", **window)),
            reopen(node("raw", "s", file="sf", offset=1024)),
            reopen(node("raw", "s", file="sf", size=4096, offset=512)),
            reopen(node("raw", "s", file="sf", **window)),
            resize("s", 4096),
            resize("r", 2 * MIB),
            resize("r", 12345),
            NESTED,
            reopen(node("raw", "s", file="sf", offset=1 << 62)),
            add(node("raw", "top", file="s", **window)),
            reopen(node("raw", "top", file="s")),
        )
    scenario(
        "raw: on raw on raw",
        (image("a.raw"),),
        add(node("raw", "r1", file=node("raw", "r2", file=node("raw", "r3", file=file("a.raw"))))),
        NESTED,
        reopen(node("raw", "r1", offset=512, file="r2")),
        reopen(node("raw", "r2", offset=512, file="r3")),
        NESTED,
        reopen(node("raw", "r1", file="r3")),
        reopen(node("raw", "r2", file="r3")),
        delete("r1"),
    )
    scenario(
        "null: odd sizes",
        (),
        add(node("null-co", "n", size=1000)),
        add(node("null-co", "m", size=0)),
        add(node("null-co", "k", size=(1 << 63) - GIB)),
        add(node("null-co", "l", size=(1 << 63) - GIB + 1)),
        add(node("null-aio", "a", size=100, latency_ns=5, read_zeroes=True)),
        add(node("raw", "r", file="n")),
        add(node("blkdebug", "b", image="n", align=4096)),
        add(node("qcow2", "q", file="n")),
        NESTED,
        resize("n", 512),
        resize("n", -1),
        resize("n", (1 << 63) - 1),
    )
    scenario(
        "files: odd sizes",
        (
            image("z.qcow2", 0),
            image("t.qcow2", TIB),
            image("z.raw", 0),
            image("o.raw", 1),
            image("x.raw", 511),
            image("y.raw", 513),
        ),
        *(add(node("qcow2", name, file=file(f"{name}.qcow2"))) for name in "zt"),
        *(add(node("raw", f"{name}r", file=file(f"{name}.raw"))) for name in "zoxy"),
        NESTED,
    )


def sizes() -> None:
    wanted = (0, 512, 66_048, MIB, 512 * MIB, 513 * MIB, 10 * GIB, 100 * GIB)
    for size in (0, 512, MIB, 512 * MIB, 600 * MIB, 10 * GIB):
        scenario(
            f"resize: a qcow2 image of {size}",
            (image("hd0.qcow2", size),),
            add(hd(0)),
            *(resize("hd0", each) for each in wanted),
            delete("hd0"),
            add(hd(0)),
            *(resize("hd0", each) for each in reversed(wanted)),
            *(command for each in wanted for command in (resize("hd0", each), resize("hd0", size))),
            delete("hd0"),
            add(hd(0)),
        )
    scenario(
        "resize: under a longer backing file",
        (image("hd0.qcow2", 4 * MIB), image("hd1.qcow2", 2 * MIB)),
        add(hd(0)),
        add(hd(1, backing="hd0")),
        *(resize("hd1", each) for each in (3 * MIB, 8 * MIB, 512, 9 * MIB)),
        resize("hd0", MIB),
    )
    scenario(
        "resize: over a raw backing file",
        (image("a.raw", 3 * MIB), image("hd1.qcow2", MIB, "a.raw", "raw")),
        add(hd(1)),
        *(resize("hd1", each) for each in (2 * MIB, 4 * MIB, MIB, 6 * MIB)),
        NESTED,
    )


# Options one by one

OPTIONS: tuple[tuple[str, Options, dict[str, list[Any]]], ...] = (
    (
        "qcow2",
        {"file": file("hd0.qcow2", "pf")},
        {
            "lazy-refcounts": [True, False],
            "pass-discard-request": [True],
            "overlap-check": ["none", {"template": "cached", "active-l2": True}],
            "cache-size": [0, 65536, MIB, 1000],
            "l2-cache-size": [0, 1, 65536, 1 << 62],
            "l2-cache-entry-size": [512, 4096, 100, MIB],
            "refcount-cache-size": [0, 262_144],
            "cache-clean-interval": [0, -1, 1 << 32],
            "encrypt": [{"format": "luks", "key-secret": "x"}],
            "data-file": ["pf", "nosuch"],
            "force-share": [True, False],
        },
    ),
    (
        "file",
        {"filename": "hd0.qcow2"},
        {
            "aio": ["threads", "native"],
            "locking": ["on", "off", "auto"],
            "aio-max-batch": [0, 5],
            "drop-cache": [True, False],
            "x-check-cache-dropped": [True, False],
            "filename": ["hd1.qcow2", "./hd0.qcow2"],
        },
    ),
    ("null-co", {}, {"size": [0, MIB], "latency-ns": [0, 5, -1], "read-zeroes": [True, False]}),
    (
        "throttle",
        {"throttle-group": "g", "file": file("hd0.qcow2", "pf")},
        {"throttle-group": ["g2", "nosuch"]},
    ),
    (
        "preallocate",
        {"file": file("hd0.qcow2", "pf")},
        {"prealloc-align": [512, 4096, 1000, 0], "prealloc-size": [0, 1000, -1]},
    ),
)


def options_one_by_one() -> None:
    for driver, base, values in OPTIONS:
        plain = {**node(driver, "x"), **base}
        for key, value in ((key, v) for key, each in values.items() for v in each):
            changed = {**plain, key: value}
            scenario(
                f"option {key} of {driver}: {value}",
                PLAIN,
                GROUP,
                GROUP_2,
                add(plain),
                reopen(changed),
                reopen(plain),
                reopen(changed),
                reopen(changed),
                delete("x"),
                add(changed),
                reopen(changed),
                reopen(plain),
                reopen(node(driver, "x")),
                reopen(changed),
                NESTED,
            )


def envelopes() -> None:
    commands: tuple[Command, ...] = (
        {"execute": "query-jobs"},
        {"execute": "query-jobs", "arguments": {"x": 1}},
        {"execute": "query-block-jobs"},
        {"execute": "query-block-exports"},
        {"execute": "query-block"},
        {"execute": "qmp_capabilities"},
        {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}},
        {"execute": "qmp_capabilities", "arguments": {"enable": ["x"]}},
        {"execute": "qmp_capabilities", "arguments": {"enable": "oob"}},
        {"execute": "nosuch"},
        {"execute": ""},
        {"execute": "x-debug-query-block-graph", "arguments": {"flat": True}},
        {"execute": "query-named-block-nodes", "arguments": {"flat": None}},
        {"execute": "block_resize", "arguments": {"node-name": "x", "size": 1.0}},
        {"execute": "block_resize", "arguments": {"node-name": "x", "size": 10**40}},
        {"execute": "blockdev-del", "arguments": {"node-name": 'a"b\\c\n'}},
    )
    scenario("envelope: simple queries and bad input", (), *commands)


for _define in (
    backing,
    chains,
    backing_names,
    filters,
    exchanges,
    children,
    flags,
    snapshots,
    several,
    windows,
    sizes,
    options_one_by_one,
    envelopes,
):
    _define()

scenario(
    "objects that are called as words of the command",
    (),
    *(
        qmp("object-add", qom_type=kind, id=name)
        for name in ("type", "id", "qom-type", "parent", "string")
        for kind in ("throttle-group", "iothread")
    ),
)
