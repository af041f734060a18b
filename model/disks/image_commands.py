# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``qemu-img`` does with images that are open: show, resize, compare and rebase them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs

from model.commands import COMMANDS
from model.data import requests
from model.data.block_status import ALLOCATED, END, Question, status, status_above
from model.disks.image_map import Run, runs
from model.disks.image_session import Request, in_context, known_drivers
from model.graph.sizes import foresee, spend
from model.graph.traversal import driver_at, filename_of, length_of, primary_child
from model.operations.chain_edits import can_name_backing, change_backing_file
from model.operations.resize import truncate
from model.values.image_layout import CLUSTER, UNKNOWN, ImageError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.data.requests import Pieces
    from model.disks.image_session import Session
    from model.graph.transition import Transition

SHOWS_CHILDREN = (8, 0)
"""The release since which the nodes below an image are shown with it."""
CLUSTERED = (9, 0)
"""The release since which a rebase writes whole clusters, also behind the old backing file."""
ENDS = (6, 0)
"""The release since which a rebase ends where an image that stays in the chain is too short."""
FORMAT_REQUIRED = (6, 1)
"""The release since which an image names the format of its backing file."""

EXACT = (6, 0)
"""The release since which sizes of more than 53 bits are read as they stand."""

_TOO_LARGE = 1 << 63
_SECTOR = 512
_AT_ONCE = 2 << 20
"""How many bytes of an image are rebased at once."""
_OFFSET = 16
"""A flag beside those of :mod:`model.data.block_status`: there is a place in a file."""


@attrs.frozen
class Comparison:
    """What ``qemu-img compare`` found: its exit ``status``, 0 or 1, and the ``text`` it prints.

    It is true where the images are identical.
    """

    status: int
    text: str

    @property
    def identical(self) -> bool:
        """Whether a guest reads the same from both, zeroes behind the end of the shorter one."""
        return not self.status

    def __bool__(self) -> bool:
        return self.identical


def info(session: Session, request: Request) -> dict[str, Any]:
    """What ``qemu-img info`` prints of an image. Raises :class:`ImageError`."""
    name = session.open_image(attrs.evolve(request, chain=False))
    t = session.t
    seen: dict[str, dict[str, Any]] = {
        node["node-name"]: node["image"]
        for node in session.run(lambda: COMMANDS["query-named-block-nodes"](t, {"flat": True}))
    }
    found = _shown(seen[name], request.name)
    if session.dialect.release >= SHOWS_CHILDREN:
        file = _shown(seen[primary_child(t, name)], request.name)
        found["children"] = [{"name": "file", "info": {"children": [], **file}}]
    return found


def _shown(image: dict[str, Any], name: str) -> dict[str, Any]:
    """A node's image as one that nobody uses: nothing is asked of it."""
    return {
        "dirty-flag": False,
        **{key: value for key, value in image.items() if key != "limits"},
        "filename": name,
    }


def resize(session: Session, request: Request, size: int, *, shrink: bool) -> None:
    """Give an image another size in bytes. Raises :class:`ImageError`."""
    if size >= 2 * _TOO_LARGE:
        raise ImageError("Parameter 'size' expects a non-negative number below 2^64")
    name = session.open_image(attrs.evolve(request, writable=True))
    exact = session.dialect.release >= EXACT
    if size <= 0 or (size if exact else int(float(size))) >= _TOO_LARGE:
        raise ImageError("New image size must be positive")
    if size < length_of(session.t, name) and not shrink:
        raise ImageError("Use the --shrink option to perform a shrink operation.")
    session.run(lambda: truncate(session.t, name, size))


# Comparing


def compare(session: Session, first: Request, second: Request, *, strict: bool) -> Comparison:
    """Compare two images. Raises :class:`ImageError`."""
    names = [session.open_image(each) for each in (first, second)]
    return session.run(lambda: _compare(session.t, *names, strict=strict))


def _compare(t: Transition, one: str, two: str, *, strict: bool) -> Comparison:
    short, long = sorted((one, two), key=lambda name: length_of(t, name))
    common, end = length_of(t, short), length_of(t, long)
    if strict and common != end:
        return Comparison(1, "Strict mode: Image size mismatch!")
    one_has, two_has = (_bytes(t, name, 0, length_of(t, name)) for name in (short, long))
    place = next((first for first, _ in _differences(one_has, two_has, 0, end)), None)
    if strict:
        status = _status_differs(t, one, two, end if place is None else place + 1)
        if status is not None:
            return Comparison(1, f"Strict mode: Offset {status} block status mismatch!")
    said = "Images are identical."
    if place is not None:
        said = f"Content mismatch at offset {place // _SECTOR * _SECTOR}!"
    noticed = common != end and (place is None or place >= common)
    warning = "Warning: Image size mismatch!\n" if noticed else ""
    return Comparison(int(place is not None), warning + said)


def _bytes(t: Transition, name: str, start: int, end: int) -> Pieces:
    """What a guest reads: runs of bytes but zero. Raises :class:`ImageError`."""
    found = requests.pieces(t, name, start, end)
    if any(value == UNKNOWN for _, _, value in found):
        raise ImageError("bytes that the spec does not know")
    return sorted(run for run in found if run[2])


def _differences(one: Pieces, two: Pieces, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges in which two sorted lists of runs differ, whose other bytes are zero."""
    edges = {start, end}
    for s, e, _ in (*one, *two):
        edges.update(edge for edge in (s, e) if start < edge < end)
    places = sorted(edges)
    values = [_values(one, places), _values(two, places)]
    for index, (s, e) in enumerate(pairwise(places)):
        if values[0][index] != values[1][index]:
            yield s, e


def _values(pieces: Pieces, places: list[int]) -> list[int]:
    """The byte at each of some sorted places."""
    found = []
    index = 0
    for place in places:
        while index < len(pieces) and pieces[index][1] <= place:
            index += 1
        inside = index < len(pieces) and pieces[index][0] <= place
        found.append(pieces[index][2] if inside else 0)
    return found


def _status_differs(t: Transition, one: str, two: str, end: int) -> int | None:
    """Where the images first say something else of their bytes, up to ``end``, if anywhere."""
    places = [runs(t, one), runs(t, two)]
    at = 0
    while at < end:
        spend(t)
        answers = [
            _status(t, name, at, _run_at(known, at))
            for name, known in zip((one, two), places, strict=True)
        ]
        if answers[0][1] != answers[1][1]:
            return at
        at = min(reached for reached, _ in answers)
    return None


def _status(t: Transition, name: str, at: int, run: Run) -> tuple[int, int]:
    """Up to where an image says the same of its bytes, and what; whether it ends there, too."""
    reached, flags = status_above(t, name, None, at, length_of(t, name))
    said = run.flags | (_OFFSET if run.offset is not None else 0)
    return (run.end, said) if run.end < reached else (reached, said | flags & END)


def _run_at(known: list[Run], place: int) -> Run:
    return next(run for run in known if run.start <= place < run.end)


# Rebasing


def rebase(
    session: Session,
    request: Request,
    backing: str | None,
    backing_format: str | None,
    *,
    unsafe: bool,
) -> None:
    """Give an image another backing file, None for none at all.

    Unless that is ``unsafe``, the image gets what a guest would read otherwise. Raises
    :class:`ImageError`.
    """
    name = session.open_image(attrs.evolve(request, writable=True, chain=not unsafe))
    if backing_format is not None and backing_format not in known_drivers(session.dialect):
        raise ImageError(f"Invalid format name: {shown(backing_format)}")
    if not unsafe:
        new = _new_backing(session, name, backing, backing_format)
        session.run(lambda: _copy_up(session, name, new))
    try:
        _check_name(session, name, backing, backing_format)
    except ImageError as error:
        prefix = f"Could not change the backing file to {shown(backing or '')}: "
        raise in_context(prefix, error) from None
    session.run(lambda: change_backing_file(session.t, name, backing, backing_format))


def _check_name(
    session: Session, name: str, backing: str | None, backing_format: str | None
) -> None:
    """Raise :class:`ImageError` unless an image can name its backing file so."""
    if backing and not backing_format and session.dialect.release >= FORMAT_REQUIRED:
        raise ImageError("backing format must be specified")
    if not driver_at(session.t, name).supports_backing:
        raise ImageError("Operation not supported")
    if not can_name_backing(session.t, name, backing):
        raise ImageError("Invalid argument")


def _new_backing(
    session: Session, name: str, backing: str | None, backing_format: str | None
) -> str | None:
    """The node of the new backing file, which may be in the chain already; None for none."""
    if not backing:
        return None
    t = session.t
    below = t.nodes[name].link("backing")
    while below is not None:
        node = t.nodes[below.child]
        if filename_of(t, node.name) == backing:
            return node.name
        below = node.link("backing")
    try:
        return session.open(Request(backing, backing_format))
    except ImageError as error:
        raise in_context(f"Could not open new backing file {shown(backing)}: ", error) from None


def _copy_up(session: Session, name: str, new: str | None) -> None:
    """Write to an image what its new backing file has not got, part by part.

    A part that lies behind the old backing file is written as zeroes.
    """
    t = session.t
    below = t.nodes[name].link("backing")
    old = None if below is None else below.child
    size, old_size = length_of(t, name), 0 if old is None else length_of(t, old)
    shared = new if old is not None and new in _chain(t, old) else None
    whole = session.dialect.release >= CLUSTERED
    at = 0
    foresee(t, size // _AT_ONCE)
    while at < size:
        asked = min(at + _AT_ONCE, size)
        end, flags = status(t, name, at, asked, asked=Question.ALLOCATION)
        if not flags & ALLOCATED and shared is not None and old is not None:
            reached, above = status_above(t, old, shared, at, end, asked=Question.ALLOCATION)
            if not above & ALLOCATED and reached > at:
                at = reached
                continue
            if reached > at:
                end = reached
            elif session.dialect.release < ENDS:
                raise ImageError("the release never ends, since a backing file is shorter")
        if not flags & ALLOCATED:
            behind = at >= old_size
            if not behind and not whole:
                end = min(end, old_size)
            _copy_part(t, name, (old, new), at, end, zeroes=behind, whole=whole)
        at = end


def _chain(t: Transition, top: str) -> list[str]:
    found = [top]
    while (below := t.nodes[found[-1]].link("backing")) is not None:
        found.append(below.child)
    return found


def _copy_part(
    t: Transition,
    name: str,
    backing: tuple[str | None, str | None],
    start: int,
    end: int,
    *,
    zeroes: bool,
    whole: bool,
) -> None:
    """Write the parts that two backing files do not have in common, as the old one has them."""
    old, new = (
        [] if each is None else _bytes(t, each, start, min(end, max(start, length_of(t, each))))
        for each in backing
    )
    unit = CLUSTER if whole else _SECTOR
    done = start
    for first, e in list(_units(_differences(old, new, start, end), unit, start, end)):
        s = max(first, done)
        if s < e:
            data = [(max(a, s), min(b, e), v) for a, b, v in old if a < e and b > s]
            requests.put(t, name, s, e, data, zeroes="on" if zeroes else "off")
            done = e


def _units(
    found: Iterator[tuple[int, int]], unit: int, start: int, end: int
) -> Iterator[tuple[int, int]]:
    """Ranges in whole units, those as one that follow each other."""
    last: tuple[int, int] | None = None
    for s, e in found:
        first, stop = max(start, s // unit * unit), min(end, -(-e // unit) * unit)
        if last is not None and first <= last[1]:
            last = (last[0], max(last[1], stop))
            continue
        if last is not None:
            yield last
        last = (first, stop)
    if last is not None:
        yield last
