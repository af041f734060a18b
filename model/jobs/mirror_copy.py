# SPDX-License-Identifier: GPL-2.0-or-later
"""What a mirror remembers and copies, and in which pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import attrs

from model.data import requests
from model.data.block_status import DATA, ZERO, allocated_above, status_above
from model.data.image_access import UNKNOWN_BYTES, content
from model.data.length import cluster_size, look_again
from model.graph import chain, dirty_bitmaps
from model.graph.sizes import check_memory, foresee
from model.graph.traversal import length_of, primary_child
from model.jobs import lifecycle, target_zeroes
from model.jobs.in_flight import Race
from model.operations.resize import RESIZE_L1, RESIZE_SECTORS, truncate
from model.release.rules import Refusal, Rule, hazard
from model.values import ranges
from model.values.image_layout import CLUSTER, ImageError, ShrunkError

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Job, Node

SHRUNK = hazard(
    "hazard.job-beyond-end",
    "A job works on a filter that did not notice that its node became shorter, or its source "
    "became longer before it began.",
    source="7.2 ends with an assertion, in mirror_dirty_init, hbitmap_set or "
    "bdrv_co_write_req_prepare, and a backup of what lies on top never ends",
)


_ERRORS = {RESIZE_SECTORS.id: "Invalid argument", RESIZE_L1.id: "File too large"}
"""Why a base cannot be made longer; where it is not said, its driver does not know how."""


LEAST_CHUNK, MOST_CHUNK = 512, 64 << 20


_IN_FLIGHT = 16


_MOST_BYTES = 1 << 20


_MOST_PIECES = 1024
"""A request has no more chunks than that."""


@attrs.frozen
class Mirror:
    """What a mirror remembers.

    ``filter``, ``target`` and ``base`` are nodes, ``lowest`` is the last image that counts when it
    begins, ``writer`` the key of its block backend. ``fresh``: the target has to read as zeroes
    where nothing is copied. ``nothing``: only what is written from now on is copied.
    ``blocking``: writes go to both sides at once. ``begun`` and ``over``: how far the job has come.
    ``aligned`` are chunks that may be copied without the rest of their cluster, None if all may.
    ``on_error`` is what a client wants to be done where the target cannot be written to.
    ``length`` is how long the source was when the job was made. ``synced``: both sides are equal
    and stay so, since every write goes to both. ``read_only``: the target was so before.
    ``blank``: the client says that the target reads as zeroes. ``zeroes`` are its chunks that are
    known to, None if the mirror does not care.
    ``behind``: something could not be written after the two had been equal. ``empty``: there was
    nothing to copy from when the job began.
    """

    filter: str
    target: str
    writer: str
    base: str | None
    lowest: str | None
    replaces: str | None
    granularity: int
    buffer: int
    fresh: bool
    nothing: bool
    blocking: bool
    begun: bool = False
    over: bool = False
    aligned: ranges.Ranges | None = None
    on_error: str = "report"
    length: int = 0
    synced: bool = False
    read_only: bool = False
    blank: bool = False
    zeroes: ranges.Ranges | None = None
    behind: bool = False
    empty: bool = False


def noted_on(t: Transition, job: Job) -> str:
    """The node that has the bitmap of what is still to be copied."""
    top: str = job.body.filter
    on_filter = any(bitmap.owner == job.user for bitmap in t.nodes[top].bitmaps)
    return top if on_filter else primary_child(t, top)


def begin(t: Transition, job: Job) -> bool:
    """Compare sizes and find out what is to be copied; False if the job fails."""
    body: Mirror = job.body
    source = primary_child(t, body.filter)
    check_known(t, source)
    length, target_length = length_of(t, source), length_of(t, body.target)
    if length > body.length:
        t.ev.meet(SHRUNK)
    if body.base == body.target:
        if length > target_length and not _grow(t, job, length):
            return False
    elif length != target_length:
        lifecycle.change(t, job.id, error=lifecycle.SIZES_DIFFER)
        return False
    if length:
        check_memory(t.ev, "a buffer", body.buffer)
    named = t.nodes[body.target].backing_file
    cow = (
        named
        and chain.backing_next(t, body.target) is None
        and body.granularity < (cluster_size(t, body.target) or LEAST_CHUNK)
    )
    aligned = () if cow else None
    job = lifecycle.change(
        t, job.id, body=attrs.evolve(body, begun=True, aligned=aligned, empty=not length)
    )
    if not body.nothing and length:
        _find_dirty(t, job, source, length)
    return True


def defect(error: ImageError) -> Rule:
    """What keeps a job from knowing what it copies."""
    return SHRUNK if isinstance(error, ShrunkError) else UNKNOWN_BYTES


def check_known(t: Transition, source: str) -> None:
    """Raise :class:`ImageError` where a node shows what nobody but an image's driver writes."""
    image = content(t, source)
    if image is not None and image.format != "raw":
        raise ImageError(f"node {source!r} shows the inside of an image")


def _grow(t: Transition, job: Job, length: int) -> bool:
    """Make the base of a commit as long as its top; False if the job fails."""
    try:
        truncate(t, job.body.target, length)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        lifecycle.change(t, job.id, error=_ERRORS.get(refusal.rule.id, "Operation not supported"))
        return False
    look_again(t)
    return True


def _find_dirty(t: Transition, job: Job, source: str, length: int) -> None:
    body: Mirror = job.body
    noted = noted_on(t, job)
    bitmap = dirty_bitmaps.find(t, noted, job.user)
    everything = ranges.whole(length, body.granularity)
    unmaps = _unmaps(t, body.target)
    punches = (
        unmaps
        and t.nodes[body.target].detect_zeroes == "unmap"
        and t.ev.holds(target_zeroes.PUNCHES)
    )
    blank = False
    if t.ev.holds(target_zeroes.KNOWS_ZEROES):
        blank = body.blank or target_zeroes.all_zeroes(t, body.target)
        body = attrs.evolve(body, zeroes=everything if blank and not punches else ())
    if body.fresh and (punches or not (blank or unmaps)):
        lifecycle.change(t, job.id, body=body)
        dirty_bitmaps.put(t, noted, bitmap, everything)
        return
    if body.fresh and not blank:
        requests.put(t, body.target, 0, length, [], zeroes="unmap", insist=True)
        body = attrs.evolve(
            body,
            aligned=None if body.aligned is None else everything,
            zeroes=None if body.zeroes is None else everything,
        )
    lifecycle.change(t, job.id, body=body)
    dirty = bitmap.dirty
    offset = 0
    while offset < length:
        reached, allocated = allocated_above(t, source, body.lowest, offset, length)
        if reached == offset:
            raise ShrunkError(f"what node {source!r} filters has become shorter; QEMU ends there")
        if allocated:
            dirty = ranges.joined(dirty, *ranges.aligned(offset, reached, body.granularity))
        offset = reached
    dirty_bitmaps.put(t, noted, bitmap, dirty)


def _unmaps(t: Transition, name: str) -> bool:
    """Whether zeroes that are written to a node can give its space back."""
    return t.nodes[name].unmap and _takes_unmap(t, t.nodes[name])


def _takes_unmap(t: Transition, node: Node) -> bool:
    if node.driver in ("qcow2", "file"):
        return True
    if node.driver in ("blkverify", "mirror_top", "commit_top") or not node.children:
        return False
    return all(
        _takes_unmap(t, t.nodes[link.child]) for link in node.children if link.name != "target"
    )


def copy_dirty(t: Transition, job_id: str) -> list[Request]:
    """Copy until nothing is dirty; returns what could not be written."""
    failed: list[Request] = []
    job = t.jobs[job_id]
    body: Mirror = job.body
    dirty = dirty_bitmaps.find(t, noted_on(t, job), job.user).dirty
    foresee(t, ranges.count(dirty) // body.buffer)
    race = Race(t, primary_child(t, body.filter), body.target)
    while True:
        job = t.jobs[job_id]
        source = primary_child(t, job.body.filter)
        noted = noted_on(t, job)
        bitmap = dirty_bitmaps.find(t, noted, job.user)
        if not bitmap.dirty:
            break
        start, end = bitmap.dirty[0]
        end = min(end, start + job.body.buffer)
        dirty_bitmaps.put(t, noted, bitmap, ranges.without(bitmap.dirty, start, end))
        race.batch()
        requests = _requests(t, job_id, source, start, end)
        # What is copied has to be read first.
        for request in sorted(requests, key=lambda request: request.way == "copy"):
            if _is_there(t.jobs[job_id].body, request):
                _progress(t, job_id, request)
            elif request.end > length_of(t, body.target):
                failed.append(request)
            else:
                _perform(t, job_id, source, request, race)
    race.settle()
    lifecycle.change(t, job_id, total=t.jobs[job_id].current)
    return failed


class Request(NamedTuple):
    """What happens to a range: "copy", "zero" or "discard"."""

    start: int
    end: int
    way: str


def _requests(t: Transition, job_id: str, source: str, start: int, end: int) -> list[Request]:
    """How a range of dirty chunks is copied."""
    length = length_of(t, source)
    most = max(t.jobs[job_id].body.buffer // _IN_FLIGHT, _MOST_BYTES)
    found: list[Request] = []
    offset = start
    while offset < min(end, length):
        body: Mirror = t.jobs[job_id].body
        reached, flags = status_above(t, source, None, offset, end)
        count = reached - offset
        if flags & DATA:
            count = min(count, most)
        count -= count % body.granularity
        whole = count > 0
        count = max(count, body.granularity)
        way = "copy"
        if whole and not flags & DATA and _round(t, body.target, offset, count) == (offset, count):
            way = "zero" if flags & ZERO else "discard"
        request = Request(offset, offset + min(count, length - offset), way)
        if way == "copy":
            request = _as_copied(t, t.jobs[job_id], source, request)
        if body.aligned is not None:
            chunks = ranges.aligned(request.start, request.end, body.granularity)
            known = ranges.joined(body.aligned, *chunks)
            lifecycle.change(t, job_id, body=attrs.evolve(body, aligned=known))
        found.append(request)
        offset = request.end
    return found


def _round(t: Transition, target: str, offset: int, count: int) -> tuple[int, int]:
    """A range, rounded out to whole clusters of the target."""
    cluster = cluster_size(t, target)
    if not cluster:
        return offset, count
    start, end = ranges.aligned(offset, offset + count, cluster)
    return start, end - start


def _as_copied(t: Transition, job: Job, source: str, request: Request) -> Request:
    """As much as is copied at once.

    Where the target has no backing file to copy the rest of a cluster from, that is copied, too.
    """
    body: Mirror = job.body
    start = request.start
    end = min(request.end, start + min(body.buffer, body.granularity * _MOST_PIECES))
    if body.aligned is None:
        return Request(start, end, "copy")
    ends = (start, start + 1), (end - 1, end)
    if not all(ranges.within(body.aligned, *one) for one in ends):
        first, count = _round(t, body.target, start, end - start)
        most = body.granularity * _MOST_PIECES
        if count > most:
            count = most // CLUSTER * CLUSTER
        start, end = first, min(first + count, length_of(t, source))
    return Request(start, end, "copy")


def _perform(t: Transition, job_id: str, source: str, request: Request, race: Race) -> None:
    target = t.jobs[job_id].body.target
    start, end, way = request
    know_zeroes(t, job_id, start, end, zero=way == "zero")
    if way == "zero":
        requests.put(t, target, start, end, [], zeroes="unmap", insist=True)
    elif way == "discard":
        requests.discard(t, target, start, end)
    else:
        race.copy(source, target, start, end)
    _progress(t, job_id, request)


def _progress(t: Transition, job_id: str, request: Request) -> None:
    done = t.jobs[job_id].current + request.end - request.start
    lifecycle.change(t, job_id, current=done)


def _is_there(body: Mirror, request: Request) -> bool:
    """Whether zeroes that a request is to write are known to be there already."""
    return request.way == "zero" and target_zeroes.covers(body.zeroes, request.start, request.end)


def know_zeroes(t: Transition, job_id: str, start: int, end: int, *, zero: bool) -> None:
    """The target gets zeroes, or something else."""
    body: Mirror = t.jobs[job_id].body
    if body.zeroes is None:
        return
    change = ranges.joined if zero else ranges.without
    known = change(body.zeroes, *ranges.aligned(start, end, body.granularity))
    lifecycle.change(t, job_id, body=attrs.evolve(body, zeroes=known))
