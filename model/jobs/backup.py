# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-backup: a node as it was when the job began, whatever is written to it meanwhile.

A filter above the source copies what is about to be overwritten. A job that has nothing else to
do (sync none) leaves all the work to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data import requests
from model.data.block_status import ALLOCATED, DATA, ZERO, Question, status, status_above
from model.drivers.backup_top import HAS_DRIVER
from model.drivers.copy_before_write import CopyBeforeWrite, check_least
from model.edits.links import attach_child, release
from model.graph import aio_contexts, dirty_bitmaps
from model.graph.driver import driver_of
from model.graph.job_kind import JobKind, Rest
from model.graph.op_blockers import check_free
from model.graph.request_limits import take_limits
from model.graph.sizes import foresee
from model.graph.traversal import driver_at, length_of, primary_child
from model.jobs import job_filters, lifecycle
from model.jobs.in_flight import Race
from model.jobs.mirror_copy import check_known, defect
from model.operations import chain_edits
from model.operations.open import NO_NODE
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen, refresh, refresh_link
from model.release.rules import Refusal, effect, guard, hazard
from model.release.scope import Outside, takes
from model.values import ranges
from model.values.image_layout import ImageError, ShrunkError
from model.values.private import BackupTopState
from model.values.state import Perm, Role

if TYPE_CHECKING:
    from model.data.requests import Write
    from model.graph.transition import Transition
    from model.values.private import CopyBeforeWriteState
    from model.values.state import Job, Node

NO_BITMAP_NAMED = guard(
    "backup.bitmap-missing",
    "A backup that goes by a bitmap names the bitmap.",
    source="7.2",
    text="must provide a valid bitmap name for '{sync}' sync mode",
)
BITMAP_MODE_FIXED = guard(
    "backup.bitmap-mode-fixed",
    "An incremental backup clears its bitmap if it succeeds, and in no other way.",
    source="7.2",
    text="Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
)
BITMAP_UNKNOWN = guard(
    "backup.bitmap-unknown",
    "The bitmap that a backup goes by exists.",
    source="7.2; no modelled command makes a bitmap with a name",
    text="Bitmap '{bitmap}' could not be found",
)
BITMAP_MODE_ALONE = guard(
    "backup.bitmap-mode-alone",
    "A bitmap mode is given only together with a bitmap.",
    source="7.2",
    text="Cannot specify bitmap sync mode without a bitmap",
)
ITSELF = guard(
    "backup.itself",
    "A node is not copied to itself.",
    source="7.2",
    text="Source and target cannot be the same",
)
COMPRESS = guard(
    "backup.compress",
    "A copy is compressed only where the target can be.",
    source="7.2; the message prints a device name that nobody gave",
    text="Compression is not supported for this drive ",
)
WORKERS = guard(
    "backup.max-workers",
    "A backup has at least one worker.",
    source="7.2",
    text="max-workers must be between 1 and 2147483647",
)
CHUNK_NEGATIVE = guard(
    "backup.max-chunk-negative",
    "The largest chunk of a backup is not negative.",
    source="7.2",
    text="max-chunk must be zero (which means no limit) or positive",
)
SIZES = guard(
    "backup.sizes",
    "Source and target are equally long.",
    source="7.2",
    text="Source and target image have different sizes",
)
CHUNK_SMALL = guard(
    "backup.max-chunk-small",
    "A backup copies whole clusters of its target.",
    source="7.2",
    text="Required max-chunk ({chunk}) is less than backup cluster size ({cluster})",
)
NOTHING_TO_COPY = hazard(
    "hazard.empty-backup",
    "A node of no length is backed up.",
    source="5.2 ends with an assertion in hbitmap_iter_init",
)
PIECE_TOO_LARGE = hazard(
    "hazard.min-cluster-memory",
    "A piece of more than 128 MiB is to be copied by a backup or its filter: min-cluster-size asks "
    "for such pieces.",
    source="10.0 and 11.1 never have so much memory for copies, and end with an assertion in "
    "co_get_from_shres",
)
OFFLOADS = effect(
    "backup.offloads",
    "A backup has the host copy where it can, so that nobody looks whether all bytes are zero.",
    source="5.2; later, only if a client asks for it",
)
COPY_BEFORE_WRITE = effect(
    "backup.copy-before-write",
    "What is about to be overwritten is copied to the target first, once.",
    source="7.2",
)

_MOST_BYTES = 1 << 20
_MOST_MEMORY = 128 << 20
_INT_MAX = (1 << 31) - 1


@attrs.frozen
class Backup:
    """What a backup remembers: its filter, what it copies (a sync mode) and how, how far it is."""

    filter: str
    sync: str
    compress: bool
    begun: bool = False


@takes(
    *lifecycle.MEMBERS,
    "device",
    "target",
    "sync",
    "bitmap",
    "bitmap-mode",
    "compress",
    "filter-node-name",
    "x-perf",
    "x-perf.max-workers",
    "x-perf.max-chunk",
    "x-perf.min-cluster-size",
    outside={
        "speed": lifecycle.PACED,
        "discard-source": Outside("what is given back of the source", unless=(False,)),
        "on-cbw-error": Outside("a guest whose write fails", unless=("break-guest-write",)),
        "x-perf.use-copy-range": Outside("copies that the host makes", unless=(False,)),
    },
    inert={
        "on-source-error": lifecycle.NO_READ_ERRORS,
        "on-target-error": "nobody resizes the target of a backup, so that no write to it fails",
    },
)
def blockdev_backup(t: Transition, arguments: dict[str, Any]) -> None:
    """Copy a node as it is now to another one."""
    ev = t.ev
    source, target = arguments["device"], arguments["target"]
    ev.check(NO_NODE, source in t.nodes, device=source, node=source)
    ev.check(NO_NODE, target in t.nodes, device=target, node=target)
    aio_contexts.change(t, target, t.nodes[source].context)
    _check_bitmap(t, arguments)
    ev.check(ITSELF, source != target)
    compress = arguments.get("compress", False)
    ev.check(COMPRESS, not compress or can_compress(t, target))
    check_free(t, source, "backup-source")
    check_free(t, target, "backup-target")
    performance = arguments.get("x-perf", {})
    ev.check(WORKERS, 1 <= performance.get("max-workers", 64) <= _INT_MAX)
    chunk = performance.get("max-chunk", 0)
    ev.check(CHUNK_NEGATIVE, chunk >= 0)
    ev.check(SIZES, length_of(t, source) == length_of(t, target))
    if not length_of(t, source):
        ev.meet(NOTHING_TO_COPY)
    name, least = arguments.get("filter-node-name"), performance.get("min-cluster-size", 0)
    top = _insert(t, source, target, name, least)
    t.keeping.append(top)
    try:
        cluster = t.nodes[top].private.cluster
        ev.check(CHUNK_SMALL, not chunk or chunk >= cluster, chunk=chunk, cluster=cluster)
        job = lifecycle.create(t, "backup", arguments, top, (0, Perm.ALL))
    except Refusal:
        t.keeping.remove(top)
        _drop(t, top)
        raise
    t.keeping.remove(top)
    lifecycle.change(t, job.id, body=Backup(top, arguments["sync"], compress))
    lifecycle.hold(t, job, "target", target, (0, Perm.ALL))
    lifecycle.start(t, job.id)


def _check_bitmap(t: Transition, arguments: dict[str, Any]) -> None:
    """Nobody has made a bitmap: whoever asks for one is refused."""
    ev = t.ev
    sync, mode = arguments["sync"], arguments.get("bitmap-mode")
    bitmap = arguments.get("bitmap")
    ev.check(
        NO_BITMAP_NAMED, bitmap is not None or sync not in ("bitmap", "incremental"), sync=sync
    )
    fixed = sync != "incremental" or mode in (None, "on-success")
    ev.check(BITMAP_MODE_FIXED, fixed)
    ev.check(BITMAP_UNKNOWN, bitmap is None, bitmap=bitmap)
    ev.check(BITMAP_MODE_ALONE, mode is None)


# The filter


def _insert(t: Transition, source: str, target: str, name: str | None, least: int) -> str:
    """Put the filter above the source, whose users go over to it. Raises :class:`Refusal`."""
    if not t.ev.holds(HAS_DRIVER):
        return _append(t, source, target, name)
    check_least(t.ev, least)
    options = {} if name is None else {"node-name": name}
    job_filters.beware_of_iothread(t, source)
    top = None
    try:
        top = chain_edits.new_node(t, "copy-before-write", name, read_only=False, options=options)
        _attach(t, top, "file", source, Role.FILTER)
        _attach(t, top, "target", target, Role.DATA)
        _filter("copy-before-write").set_up(t, top, least)
        take_limits(t, top)
    except Refusal as refusal:
        if top is not None:
            release(t, top)
        raise refusal.prefixed("Could not create node: ") from None
    try:
        chain_edits.replace(t, source, top)
    except Refusal as refusal:
        release(t, top)
        raise refusal.prefixed("Could not replace node: ") from None
    return top


def _append(t: Transition, source: str, target: str, name: str | None) -> str:
    """The same for a filter that is no driver; it asks for nothing before it is in its place."""
    top = chain_edits.new_node(t, "backup-top", name, read_only=False, size=length_of(t, source))
    try:
        _attach(t, top, "target", target, Role.DATA)
    except Refusal:
        release(t, top)
        raise
    try:
        chain_edits.append(t, top, source)
    except Refusal as refusal:
        raise refusal.prefixed("Cannot append backup-top filter: ") from None
    _filter("backup-top").set_up(t, top)
    try:
        refresh_link(t, top, "backing")
    except Refusal as refusal:
        _drop(t, top)
        raise refusal.prefixed("Cannot set permissions for backup-top filter: ") from None
    return top


def _drop(t: Transition, top: str) -> None:
    """Take the filter away; one that is no driver asks for nothing any more before."""
    state = t.nodes[top].private
    if isinstance(state, BackupTopState):
        before = Permissions(dict(t.nodes), {})
        t.change(top, private=attrs.evolve(state, active=False))
        loosen(t, primary_child(t, top), before)
    job_filters.drop(t, top)


def _filter(name: str) -> CopyBeforeWrite:
    driver = driver_of(name)
    assert isinstance(driver, CopyBeforeWrite), "the driver of the filter is the filter"  # noqa: S101
    return driver


def _attach(t: Transition, top: str, name: str, child: str, role: int) -> None:
    undo = t.undo()
    try:
        attach_child(t, top, name, child, role, undo)
        refresh(t, [top])
    except Refusal:
        undo.abort()
        raise
    undo.commit()


# The work


class BackupKind(JobKind):
    """Copies a node as it was when the job began."""

    type = "backup"
    command = "blockdev-backup"

    def run(self, t: Transition, job: Job) -> Rest:
        """Copy all of it, what lies on top, or nothing but what is about to be overwritten."""
        if job.forced:
            return Rest.DONE
        try:
            return _work(t, job)
        except ImageError as error:
            t.ev.meet(defect(error))
            return Rest.DONE

    def clean(self, t: Transition, job: Job) -> None:
        """Take the filter away."""
        top = job.body.filter
        t.keeping.append(top)
        lifecycle.let_go(t, job.id)
        t.keeping.remove(top)
        _drop(t, top)
        if not t.ev.holds(HAS_DRIVER) and not job.auto_dismiss:
            t.ev.meet(job_filters.ORPHANED_FILTER)


def _work(t: Transition, job: Job) -> Rest:
    body: Backup = job.body
    if not body.begun:
        check_known(t, primary_child(t, body.filter))
        lifecycle.change(t, job.id, body=attrs.evolve(body, begun=True))
        if body.sync == "top":
            _skip_unallocated(t, body.filter)
        _tell_rest(t, job.id)
    if body.sync == "none":
        return Rest.WORKING
    race = Race(t, primary_child(t, body.filter), _target(t, body.filter))
    race.batch()
    most = max(t.nodes[body.filter].private.cluster, _MOST_BYTES)
    foresee(t, ranges.count(_dirty(t, body.filter)) // most)
    for start, end in _dirty(t, body.filter):
        _copy_clusters(t, body.filter, start, end, race)
    race.settle()
    return Rest.DONE


def _dirty(t: Transition, top: str) -> ranges.Ranges:
    """What is still to be copied."""
    noted = t.nodes[top].private.noted
    return dirty_bitmaps.find(t, noted, top).dirty if noted in t.nodes else ()


def _done(t: Transition, top: str, start: int, end: int) -> None:
    """Note that a range need not be copied any more."""
    noted = t.nodes[top].private.noted
    bitmap = dirty_bitmaps.find(t, noted, top)
    dirty_bitmaps.put(t, noted, bitmap, ranges.without(bitmap.dirty, start, end))


def _job_of(t: Transition, top: str) -> Job | None:
    for job in t.jobs.values():
        held = [node for _, node in t.users[job.user].links]
        if isinstance(job.body, Backup) and job.body.filter == top and top in held:
            return job
    return None


def _tell_rest(t: Transition, job_id: str) -> None:
    """Work out anew how much there is to do."""
    job = t.jobs[job_id]
    left = ranges.count(_dirty(t, job.body.filter))
    lifecycle.change(t, job_id, total=job.current + left)


def _skip_unallocated(t: Transition, top: str) -> None:
    """Whole clusters of which the source itself has nothing are not copied."""
    source = primary_child(t, top)
    state: CopyBeforeWriteState = t.nodes[top].private
    length = length_of(t, source)
    offset = 0
    while offset < length:
        reached, allocated = _allocation(t, source, offset, length, state.cluster)
        if not allocated:
            _done(t, top, offset, reached)
        offset = reached


def _allocation(
    t: Transition, source: str, offset: int, length: int, cluster: int
) -> tuple[int, bool]:
    """Up to which cluster, and whether, the source has something; pieces of clusters count."""
    at = offset
    while True:
        reached, flags = status(t, source, at, length, asked=Question.ALLOCATION)
        if reached == offset:
            raise ShrunkError(f"what node {source!r} filters has become shorter; QEMU hangs there")
        total = reached - offset
        if flags & ALLOCATED or reached == at:
            return offset + -(-total // cluster) * cluster, bool(flags & ALLOCATED)
        if total >= cluster:
            return offset + total // cluster * cluster, False
        at = reached


def _copy_clusters(t: Transition, top: str, start: int, end: int, race: Race) -> None:
    """Copy what is still to be copied of a range of whole clusters."""
    source = primary_child(t, top)
    target = _target(t, top)
    cluster = t.nodes[top].private.cluster
    length = length_of(t, source)
    while True:
        dirty = ranges.within(_dirty(t, top), start, end)
        if not dirty:
            return
        if cluster > _MOST_MEMORY:
            t.ev.meet(PIECE_TOO_LARGE)
        first, last = dirty[0]
        last, way = _way(t, source, first, min(last, first + max(cluster, _MOST_BYTES)), cluster)
        _done(t, top, first, last)
        job = _job_of(t, top)
        if way == "copy" and job is not None and job.body.compress:
            raise ImageError(f"job {job.id!r} writes compressed")
        if way == "zero":
            requests.put(t, target, first, min(last, length), [], zeroes="on")
        else:
            t.offloads = t.ev.holds(OFFLOADS) and _offloads(t, source) and _offloads(t, target)
            race.copy(source, target, first, min(last, length))
            t.offloads = False
        job = _job_of(t, top)
        if job is not None:
            lifecycle.change(t, job.id, current=job.current + last - first)
            _tell_rest(t, job.id)


def _offloads(t: Transition, name: str) -> bool:
    """Whether a node, and all that its bytes may come from, leaves it to the host to copy."""
    node = t.nodes[name]
    below = all(_offloads(t, link.child) for link in node.children)
    return node.driver in ("file", "qcow2", "raw") and below


def _way(t: Transition, source: str, start: int, end: int, cluster: int) -> tuple[int, str]:
    """Up to where the next request goes, and how it is done."""
    length = length_of(t, source)
    reached, flags = status_above(t, source, None, start, min(end, length))
    count = reached - start
    if count < cluster:
        return start + cluster, "copy"
    if reached == length:
        count = -(-count // cluster) * cluster
    else:
        count -= count % cluster
    return min(end, start + count), "zero" if flags & ZERO and not flags & DATA else "copy"


def can_compress(t: Transition, name: str) -> bool:
    """Whether a node, and what it filters, can write compressed data."""
    driver = driver_at(t, name)
    below = driver.primary(t.nodes[name]) if driver.is_filter else None
    return driver.can_compress and (below is None or can_compress(t, below.child))


def _target(t: Transition, top: str) -> str:
    link = t.nodes[top].link("target")
    if link is None:
        raise LookupError(f"filter {top!r} has no target")
    return link.child


def before_write(t: Transition, node: Node, write: Write) -> None:
    """A guest writes through the filter: copy what is there first, unless it stays the same."""
    if t.ev.holds(COPY_BEFORE_WRITE) and not write.unchanged:
        cluster = node.private.cluster
        first, last = ranges.aligned(write.start, write.end, cluster)
        race = Race(t, primary_child(t, node.name), _target(t, node.name))
        _copy_clusters(t, node.name, first, last, race)
        race.settle()
        if any(bitmap.owner == f"{node.name}#done" for bitmap in node.bitmaps):
            done = dirty_bitmaps.find(t, node.name, f"{node.name}#done")
            dirty_bitmaps.put(t, node.name, done, ranges.joined(done.dirty, first, last))
    requests.pass_on(t, primary_child(t, node.name), write)


requests.PASSING["copy-before-write"] = before_write
requests.PASSING["backup-top"] = before_write
