# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequences of image operations that showed where the model did something else than ``qemu-img``.

Random sequences found most of them. Each is done on every release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.real.image_twins import Operation

MIB = 1 << 20


def create(name: str, kind: str, size: int | str | None = MIB, **more: Any) -> Operation:
    return "create", {"name": name, "format": kind, "size": size, "unsafe": False, **more}


def above(name: str, backing: str, kind: str = "qcow2", **more: Any) -> Operation:
    """An overlay of the size of its backing file."""
    given = {"name": name, "format": "qcow2", "backing": backing, "backing_format": kind}
    return "create", {**given, "unsafe": False, **more}


def write(name: str, offset: int, length: int, pattern: int = 1) -> Operation:
    return "write", {"name": name, "offset": offset, "length": length, "pattern": pattern}


def resize(name: str, size: int | str, **more: Any) -> Operation:
    return "resize", {"name": name, "size": size, **more}


def rebase(name: str, backing: str | None, kind: str | None = None, **more: Any) -> Operation:
    given: dict[str, Any] = {"name": name, "backing": backing, **more}
    return "rebase", given if kind is None else {**given, "backing_format": kind}


def compare(first: str, second: str, **more: Any) -> Operation:
    return "compare", {"first": first, "second": second, **more}


def shown(name: str, **more: Any) -> Operation:
    return "info", {"name": name, **more}


def mapped(name: str, **more: Any) -> Operation:
    return "map", {"name": name, **more}


_DATA = (write("base", 0, MIB, 5), above("mid", "base", "raw"), write("mid", 65_536, 131_072, 6))
_CHAIN = (
    create("base", "raw"),
    *_DATA,
    write("mid", 300_000, 100, 0),
    above("top", "mid"),
    write("top", 0, 65_536, 7),
)
_SHORT = (create("short", "raw", "600K"), write("short", 0, 614_400, 5))

CASES: dict[str, tuple[Operation, ...]] = {
    # What is made
    "a raw image is whole sectors long": (create("a", "raw", 1000), create("b", "qcow2", 1000)),
    "sizes with a unit": (
        create("a", "qcow2", "1.5M"),
        create("b", "raw", "64k"),
        resize("a", "2m"),
    ),
    "the size of the backing file": (create("a", "qcow2"), above("b", "a"), above("c", "a", "raw")),
    "a backing file that is not there": (
        above("b", "a"),
        above("b", "a", size=MIB),
        above("b", "a", size=MIB, unsafe=True),
        above("c", "a", unsafe=True),
        shown("b"),
        mapped("b"),
    ),
    "an image above itself": (above("b", "b", size=MIB), create("b", "qcow2"), above("b", "b")),
    "what no image can be": (
        create("a", "foo"),
        create("a", "raw", None),
        create("a", "qcow2", None),
        create("a", "raw", backing="b", backing_format="raw"),
        create("a", "qcow2", foo=1),
        create("a", "raw", cluster_size=65_536),
        create("a", "qcow2", "3P"),
        create("a", "qcow2", backing="b", backing_format="foo"),
        create("a", "qcow2", backing="b", backing_format="foo", unsafe=True),
    ),
    "options as they are anyway": (
        create(
            "a",
            "qcow2",
            cluster_size="64k",
            compat="v3",
            compression_type="zlib",
            extended_l2=False,
            lazy_refcounts="off",
            preallocation="off",
            refcount_bits=16,
        ),
        create("b", "raw", preallocation="full"),
    ),
    "a raw image that is written in full": (
        create("b", "raw", 100_000, preallocation="full"),
        mapped("b"),
        write("b", 0, 512),
    ),
    **{
        f"a refused {key}={value} of a {kind} image spoils the file": (
            create("a", "raw"),
            create("a", kind, **{key: value}),
            create("b", kind, **{key: value}),
            shown("a"),
            shown("b"),
        )
        for kind, key, value in (
            ("qcow2", "preallocation", "foo"),
            ("qcow2", "compat", "3"),
            ("qcow2", "lazy_refcounts", "foo"),
            ("qcow2", "cluster_size", 1000),
            ("qcow2", "refcount_bits", 5),
            ("raw", "preallocation", "foo"),
            ("raw", "preallocation", "metadata"),
        )
    },
    # What is shown
    "an image that is not there": (
        shown("a"),
        shown("a", format="raw"),
        mapped("a"),
        compare("a", "b"),
        resize("a", MIB),
        resize("a", 0),
        rebase("a", "b", "foo"),
    ),
    "another format than that of the image": (
        create("a", "raw"),
        create("b", "qcow2"),
        shown("a", format="qcow2"),
        shown("b", format="raw"),
        mapped("a", format="qcow2"),
        shown("a", format="foo"),
        compare("a", "b", format="foo"),
        compare("a", "b", second_format="foo"),
    ),
    "a part of a map": (
        create("a", "qcow2"),
        write("a", 70_000, 1000, 3),
        *(
            mapped("a", start_offset=start, max_length=length)
            for start in (0, 512, 65_000, MIB, 2 * MIB)
            for length in (None, 0, 1, 20_000, MIB)
        ),
    ),
    "nothing to map": (create("a", "qcow2", 0), create("b", "raw", 0), mapped("a"), mapped("b")),
    "a backing file that is shorter": (
        *_SHORT,
        above("b", "short", "raw", size=MIB),
        above("c", "b", size=2 * MIB),
        resize("b", 4 * MIB),
    ),
    "a backing file that is longer": (
        create("a", "raw", 3 * MIB),
        write("a", 0, 3 * MIB),
        above("b", "a", "raw", size="512K"),
        resize("b", "768K"),
        resize("b", "600K", shrink=True),
    ),
    "before 6.1, parts that an image has and has not are shown as one": (
        create("a", "qcow2"),
        above("b", "a"),
        resize("b", 5 * MIB),
        rebase("b", None),
    ),
    "a file that ends within a sector": (
        create("a", "raw"),
        write("a", 0, MIB, 5),
        above("b", "a", "raw"),
        resize("a", 1000, shrink=True, format="raw"),
        compare("a", "b", strict=True),
        resize("a", 70_000, format="raw"),
    ),
    "a chain without an end": (
        create("a", "qcow2"),
        rebase("a", "a", "qcow2", unsafe=True),
        write("a", 0, 512),
        resize("a", 2 * MIB),
        ("info_chain", {"name": "a"}),
    ),
    # Sizes
    "sizes that are refused": (
        create("a", "qcow2"),
        create("b", "raw"),
        *(resize("a", size) for size in ("512K", "-512", 0, "-2M", 1000, "3P")),
        *(resize("a", size, shrink=True) for size in (0, "-2M", 1000)),
        resize("b", "-512", format="raw"),
        resize("b", 1 << 62, format="qcow2"),
    ),
    "sizes that change by something": (
        create("a", "qcow2"),
        resize("a", "+1M"),
        resize("a", "-64K", shrink=True),
        resize("a", MIB, shrink=True),
    ),
    # Comparisons
    "what is compared": (
        create("a", "qcow2"),
        create("b", "raw", 2 * MIB),
        create("c", "qcow2", 2 * MIB),
        above("d", "a"),
        compare("a", "b"),
        compare("a", "d", strict=True),
        compare("a", "b", strict=True),
        compare("b", "c", strict=True),
        write("c", MIB + 1000, 1000),
        compare("a", "c"),
        compare("c", "a"),
        write("d", 70_000, 1000),
        compare("d", "c"),
        compare("d", "a"),
        compare("a", "d", strict=True),
    ),
    "zeroes are no data": (
        create("a", "qcow2"),
        create("b", "qcow2"),
        write("a", 0, 65_536, 0),
        compare("a", "b"),
        compare("a", "b", strict=True),
    ),
    # Backing files
    "an image loses those between": (*_CHAIN, rebase("top", "base", "raw")),
    "an image loses all below": (*_CHAIN, rebase("top", "")),
    "an image changes its base": (
        *_CHAIN,
        create("other", "raw"),
        write("other", 0, MIB, 5),
        write("other", 524_288, 65_536, 0),
        rebase("top", "other", "raw"),
    ),
    "an image gets a shorter base": (*_CHAIN, *_SHORT, rebase("top", "short", "raw")),
    "an image had a shorter base": (
        *_SHORT,
        create("base", "raw"),
        write("base", 0, MIB, 5),
        above("top", "short", "raw", size=MIB),
        rebase("top", "base", "raw"),
    ),
    "an image was above zeroes": (
        create("zero", "qcow2"),
        create("base", "raw"),
        write("base", 0, MIB, 5),
        above("top", "zero"),
        rebase("top", "base", "raw"),
    ),
    "the same base again": (*_CHAIN, rebase("top", "mid", "qcow2")),
    "bases that cannot be": (
        *_CHAIN,
        rebase("top", "none", "raw"),
        rebase("top", "top", "qcow2"),
        rebase("top", "base", "qcow2"),
        rebase("top", "none", "foo"),
        rebase("top", "base"),
        create("raw", "raw"),
        rebase("raw", ""),
        rebase("raw", "base", "raw", format="raw"),
    ),
    "only the name is changed": (
        *_CHAIN,
        rebase("top", "none", unsafe=True),
        rebase("top", "none", "qcow2", unsafe=True),
        mapped("top"),
        rebase("top", "base", "raw"),
        rebase("top", "base", "raw", unsafe=True),
        rebase("top", "", unsafe=True),
        rebase("top", "", "raw", unsafe=True),
    ),
}
