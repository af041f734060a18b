# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-mirror, and block-commit of an image that is in use.

Both keep a target equal to a source until they are told to end; what a commit mirrors to
lies below its source. A filter stands above the source, through which the source's users see
what they saw before; it goes when the job ends. What was written to the source and not yet
copied is noted down in a dirty bitmap of the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from model.data import requests
from model.data.block_status import DATA, RACE, ZERO, allocated_above, status_above
from model.data.image_access import UNKNOWN_BYTES, content
from model.data.length import cluster_size, flush, look_again
from model.drivers.mirror_top import MIRROR_PASSES_ON, OUTLIVED
from model.edits import block_backends
from model.edits.links import release
from model.graph import aio_contexts, chain, dirty_bitmaps
from model.graph.driver import driver_of
from model.graph.freezing import freeze_chain, unfreeze_chain
from model.graph.job_kind import JobKind, Rest
from model.graph.op_blockers import check_free
from model.graph.sizes import check_memory, foresee
from model.graph.traversal import length_of, primary_child
from model.jobs import job_filters, lifecycle, target_zeroes
from model.jobs.in_flight import Race
from model.jobs.lifecycle import ENDLESS
from model.operations import chain_edits
from model.operations.open import NO_NODE
from model.operations.resize import RESIZE_L1, RESIZE_SECTORS, truncate
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen
from model.release.rules import Refusal, Rule, effect, guard, hazard
from model.release.scope import takes
from model.values import ranges
from model.values.image_layout import CLUSTER, ImageError, ShrunkError
from model.values.private import MirrorTopState
from model.values.state import Bitmap, Perm, Use

if TYPE_CHECKING:
    from model.data.requests import Write
    from model.graph.transition import Transition
    from model.values.state import Job, Node

NOT_ROOT = guard(
    "mirror.not-root",
    "The node to mirror has no users but block backends.",
    source="7.2",
    text="Need a root block node",
)
GRANULARITY_RANGE = guard(
    "mirror.granularity-range",
    "A mirror goes by chunks of 512 bytes to 64 MiB.",
    source="7.2",
    text="Parameter 'granularity' expects a value in range [512B, 64MB]",
)
GRANULARITY_POWER = guard(
    "mirror.granularity-power",
    "A mirror's chunks are a power of two.",
    source="7.2",
    text="Parameter 'granularity' expects a power of 2",
)
REPLACES_UNKNOWN = guard(
    "mirror.replaces-unknown",
    "The node that a mirror is to replace exists.",
    source="7.2",
    text="Failed to find node with node-name='{node}'",
)
REPLACES_VISIBLE = guard(
    "mirror.replaces-visible",
    "A mirror replaces only what shows the same data as its source.",
    source="7.2",
    text="Cannot replace '{node}' by a node mirrored from '{source}', because it cannot be "
    "guaranteed that doing so would not lead to an abrupt change of visible data",
)
REPLACES_SIZE = guard(
    "mirror.replaces-size",
    "A mirror replaces only what has the size of its source.",
    source="7.2",
    text="cannot replace image with a mirror image of different size",
)
SYNC_MODE = guard(
    "mirror.sync-mode",
    "A mirror knows no bitmaps of clients.",
    source="7.2",
    text="Sync mode '{sync}' not supported",
)
BUFFER = guard(
    "mirror.buf-size",
    "A buffer's size is not negative.",
    source="7.2",
    text="Invalid parameter 'buf-size'",
)
ITSELF = guard(
    "mirror.itself",
    "A node is not mirrored into itself.",
    source="7.2",
    text="Can't mirror node into itself",
)
TARGET_FILTER = guard(
    "mirror.target-filter",
    "The target is no filter above a node of the source's chain.",
    source="7.2",
    text="Cannot mirror to a filter on top of a node in the source's backing chain",
)
REPLACES_GONE = guard(
    "mirror.replaces-gone",
    "The node that a mirror is to replace is still there when it is told to end.",
    source="7.2",
    text="Node name '{node}' not found",
)
COMPLETED_TWICE = hazard(
    "hazard.mirror-completed-twice",
    "A paused mirror that is to replace a node is told to end for the second time.",
    source="7.2 ends with an assertion in error_setv",
)
SHRUNK = hazard(
    "hazard.job-beyond-end",
    "A job works on a filter that did not notice that its node became shorter, or its source "
    "became longer before it began.",
    source="7.2 ends with an assertion, in mirror_dirty_init, hbitmap_set or "
    "bdrv_co_write_req_prepare, and a backup of what lies on top never ends",
)
LOST_WRITE = hazard(
    "hazard.lost-write",
    "A mirror or an active commit that has done its work and waits for the client puts its target "
    "in the place of its source, to which somebody has written meanwhile.",
    source="7.2 does not copy that any more: what the guest wrote is lost",
)
NOT_PERMITTED = "Operation not permitted"
"""The error of a mirror that could not put its target in the place of another node."""
TRIES_AGAIN = effect(
    "mirror.tries-again",
    "A mirror that is told to stop while it is paused first goes on with what it has to copy, "
    "unless it was paused long ago.",
    source="5.2",
)
COPIES_WITHOUT_RIGHT = hazard(
    "hazard.copies-without-right",
    "What is read through a copy-on-read filter is copied through the filter of a mirror.",
    source="5.2 ends with an assertion: the filter asks for no right to write what does not change",
)
READY_TWICE = hazard(
    "hazard.ready-twice",
    "A mirror that was ready and could not write catches up again.",
    source="5.2 lets it become ready a second time, and ends with an assertion",
)
FREEZES = effect(
    "mirror.freezes",
    "A mirror whose target lies in its own chain, as in an active commit, freezes the links from "
    "its filter down to it.",
    source="patch 3/13 (freeze the backing chain for the duration of the mirror job)",
)
PIVOT = effect(
    "mirror.pivot",
    "A mirror that is told to end puts its target in the place of its source.",
    source="7.2",
)
ALIGN_READ_ONLY = effect(
    "mirror.align-read-only",
    "The target becomes as read-only as what it replaces, if that is possible.",
    source="7.2",
)
COMMIT_WRITABLE = effect(
    "mirror.commit-writable",
    "The base of an active commit becomes writable, and stays so unless the job cannot start or "
    "replaces a node that is read-only.",
    source="7.2",
)
ABORT_READ_ONLY = effect(
    "mirror.abort-read-only",
    "The base of an active commit that was read-only becomes so again when the job fails.",
    source="10.0; before, see mirror.commit-writable",
)
EMPTY_IS_EQUAL = effect(
    "mirror.empty-is-equal",
    "Two nodes without bytes are equal and stay so, whatever a mirror does with writes.",
    source="10.0, the first to tell whether they are",
)
NOTES_ON_FILTER = effect(
    "mirror.notes-on-filter",
    "What is written through the filter of a mirror is noted down in a bitmap of the filter.",
    source="10.0; before, what is written to the source in whatever way, in a bitmap of the source",
)

_ERRORS = {RESIZE_SECTORS.id: "Invalid argument", RESIZE_L1.id: "File too large"}
"""Why a base cannot be made longer; where it is not said, its driver does not know how."""

_LEAST_CHUNK, _MOST_CHUNK = 512, 64 << 20
_DEFAULT_CHUNK = 65536
_DEFAULT_BUFFER = 16 << 20
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


@attrs.frozen
class _Plan:
    """What a command asks for."""

    kind: str
    source: str
    target: str
    base: str | None = None
    replaces: str | None = None
    granularity: int = 0
    buffer: int = 0
    fresh: bool = False
    nothing: bool = False
    blocking: bool = False
    on_error: str = "report"
    read_only: bool = False
    blank: bool = False


# The commands


@takes(
    *lifecycle.MEMBERS,
    "device",
    "target",
    "replaces",
    "sync",
    "granularity",
    "buf-size",
    "copy-mode",
    "on-target-error",
    "filter-node-name",
    "target-is-zero",
    outside={"speed": lifecycle.PACED},
    inert={"on-source-error": lifecycle.NO_READ_ERRORS},
)
def blockdev_mirror(t: Transition, arguments: dict[str, Any]) -> None:
    """Copy a node to another one and keep them equal."""
    ev = t.ev
    source, target = arguments["device"], arguments["target"]
    ev.check(NO_NODE, source in t.nodes, device=source, node=source)
    ev.check(NOT_ROOT, _is_root(t, source))
    ev.check(NO_NODE, target in t.nodes, device=target, node=target)
    aio_contexts.change(t, target, t.nodes[source].context)
    granularity = arguments.get("granularity", 0)
    in_range = granularity == 0 or _LEAST_CHUNK <= granularity <= _MOST_CHUNK
    ev.check(GRANULARITY_RANGE, in_range)
    ev.check(GRANULARITY_POWER, granularity & (granularity - 1) == 0)
    check_free(t, source, "mirror-source")
    check_free(t, target, "mirror-target")
    sync = arguments["sync"]
    replaces = arguments.get("replaces")
    if replaces is not None:
        _check_replaces(t, source, replaces)
    ev.check(SYNC_MODE, sync not in ("incremental", "bitmap"), sync=sync)
    plan = _Plan(
        "mirror",
        source,
        target,
        base=chain.backing_next(t, source) if sync == "top" else None,
        replaces=replaces,
        granularity=granularity,
        buffer=arguments.get("buf-size", 0),
        fresh=sync == "full",
        nothing=sync == "none",
        blocking=arguments.get("copy-mode") == "write-blocking",
        on_error=arguments.get("on-target-error", "report"),
        blank=arguments.get("target-is-zero", False),
    )
    _start(t, plan, arguments)


def start_active_commit(
    t: Transition, arguments: dict[str, Any], top: str, base: str, job_id: str
) -> None:
    """Commit an image that is in use to ``base``; ``arguments`` are those of block-commit."""
    read_only = t.nodes[base].read_only
    if read_only and t.ev.holds(COMMIT_WRITABLE):
        chain_edits.set_read_only(t, base, read_only=False)
    try:
        on_error = arguments.get("on-error", "report")
        plan = _Plan("commit-active", top, base, base=base, on_error=on_error, read_only=read_only)
        _start(t, plan, {**arguments, "job-id": job_id})
    except Refusal:
        if read_only:
            chain_edits.try_read_only(t, base)
        raise


def _is_root(t: Transition, name: str) -> bool:
    return all(
        isinstance(key, Use) and t.users[key.user].kind == "block-backend"
        for key in t.nodes[name].parents
    )


def _check_replaces(t: Transition, source: str, replaces: str) -> None:
    ev = t.ev
    ev.check(REPLACES_UNKNOWN, replaces in t.nodes, node=replaces)
    check_free(t, replaces, "replace")
    visible = can_replace(t, source, replaces)
    ev.check(REPLACES_VISIBLE, visible, node=replaces, source=source)
    ev.check(REPLACES_SIZE, length_of(t, source) == length_of(t, replaces))


def can_replace(t: Transition, name: str, replaced: str) -> bool:
    """Whether another node may show the data of ``name`` in the place of ``replaced``."""
    if name == replaced:
        return True
    node = t.nodes[name]
    driver = driver_of(node.driver)
    if driver.can_add_child:
        # The children of a quorum may differ: nobody else may look at the one in question.
        found = any(link.child == replaced for link in node.children)
        return found and len(t.nodes[replaced].parents) == 1
    if driver.name == "blkverify":
        return any(can_replace(t, link.child, replaced) for link in node.children)
    link = driver.primary(node) if driver.is_filter else None
    return link is not None and can_replace(t, link.child, replaced)


# The beginning


def _start(t: Transition, plan: _Plan, arguments: dict[str, Any]) -> None:
    t.ev.check(BUFFER, plan.buffer >= 0)
    itself = chain.skip_filters(t, plan.source) == chain.skip_filters(t, plan.target)
    t.ev.check(ITSELF, not itself)
    below = chain.contains(t, plan.source, plan.target)
    name = arguments.get("filter-node-name")
    top = chain_edits.new_node(
        t,
        "mirror_top",
        name,
        read_only=False,
        implicit=name is None,
        never_frozen=True,
        size=length_of(t, plan.source),
        private=MirrorTopState(commit=below, passes_on=t.ev.holds(MIRROR_PASSES_ON)),
    )
    chain_edits.append(t, top, plan.source)
    t.keeping.append(top)
    try:
        job_id = _create(t, plan, arguments, top, below=below)
    except Refusal:
        t.keeping.remove(top)
        _take_filter_away(t, top)
        raise
    t.keeping.remove(top)
    lifecycle.start(t, job_id)


def _create(t: Transition, plan: _Plan, arguments: dict[str, Any], top: str, *, below: bool) -> str:
    """Make the job and let it hold on to all that it needs. Raises :class:`Refusal`."""
    shared = Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED | Perm.WRITE | Perm.GRAPH_MOD
    job = lifecycle.create(t, plan.kind, arguments, top, (Perm.CONSISTENT_READ, shared))
    noted = top if t.ev.holds(NOTES_ON_FILTER) else plan.source
    backend = None
    try:
        backend = _use_target(t, plan, job, below=below)
        granularity = plan.granularity or _default_granularity(t, plan.target)
        recording = not plan.blocking and noted == plan.source
        dirty_bitmaps.add(t, noted, Bitmap(job.user, granularity, recording))
        _hold(t, plan, job, top, below=below)
    except Refusal:
        dirty_bitmaps.remove(t, noted, job.user)
        block_backends.let_go(t, backend)
        lifecycle.fail_early(t, job.id)
        raise
    buffer = plan.buffer or _DEFAULT_BUFFER
    body = Mirror(
        top,
        plan.target,
        backend,
        plan.base,
        chain.overlay_above(t, plan.source, plan.base),
        plan.replaces,
        granularity,
        -(-buffer // granularity) * granularity,
        plan.fresh,
        plan.nothing,
        plan.blocking,
        on_error=plan.on_error,
        length=length_of(t, plan.source),
        read_only=plan.read_only,
        blank=plan.blank,
    )
    lifecycle.change(t, job.id, body=body)
    return job.id


def _noted(t: Transition, job: Job) -> str:
    """The node that has the bitmap of what is still to be copied."""
    top: str = job.body.filter
    on_filter = any(bitmap.owner == job.user for bitmap in t.nodes[top].bitmaps)
    return top if on_filter else primary_child(t, top)


def _default_granularity(t: Transition, target: str) -> int:
    cluster = cluster_size(t, target)
    return max(4096, cluster) if cluster else _DEFAULT_CHUNK


def _use_target(t: Transition, plan: _Plan, job: Job, *, below: bool) -> str:
    """Take a block backend to write to the target; returns its key. Raises :class:`Refusal`."""
    perm, shared = Perm.WRITE, Perm.WRITE_UNCHANGED
    if below:
        if length_of(t, plan.target) < length_of(t, plan.source):
            perm |= Perm.RESIZE
        shared |= Perm.CONSISTENT_READ | Perm.WRITE | Perm.GRAPH_MOD
    else:
        bare = chain.skip_filters(t, plan.target)
        t.ev.check(TARGET_FILTER, not chain.contains(t, plan.source, bare))
    return lifecycle.take_backend(t, job, "target", plan.target, (perm, shared), follows=True)


def _hold(t: Transition, plan: _Plan, job: Job, top: str, *, below: bool) -> None:
    """Hold on to source, target, and what lies between them. Raises :class:`Refusal`."""
    shared = Perm.WRITE_UNCHANGED | Perm.WRITE
    lifecycle.hold(t, job, "source", plan.source, (0, shared | Perm.CONSISTENT_READ))
    lifecycle.hold(t, job, "target", plan.target, (0, Perm.ALL))
    if not below:
        return
    bare = chain.skip_filters(t, plan.target)
    between = list(chain.downwards(t, plan.source, plan.target))[1:]
    for name in between:
        if chain.skip_filters(t, name) == bare:
            shared |= Perm.CONSISTENT_READ
        lifecycle.hold(t, job, "intermediate node", name, (0, shared))
    if t.ev.holds(FREEZES):
        freeze_chain(t, top, plan.target)


def _take_filter_away(t: Transition, top: str) -> None:
    """Let the users of the filter go over to what it filters."""
    _stop(t, top)
    job_filters.step_aside(t, top)


def _stop(t: Transition, top: str) -> None:
    """The filter requires nothing any more."""
    before = Permissions(dict(t.nodes), {})
    t.change(top, private=attrs.evolve(t.nodes[top].private, stopped=True))
    loosen(t, primary_child(t, top), before)


# The work


class MirrorKind(JobKind):
    """Copies a node to another one and keeps them equal."""

    type = "mirror"
    command = "blockdev-mirror"
    can_complete = True

    def run(self, t: Transition, job: Job) -> Rest:
        """Copy what is dirty; end when asked to."""
        if job.forced:
            if job.body.begun and self.lags(t, job) and t.ev.holds(TRIES_AGAIN):
                t.ev.meet(RACE)
            return Rest.DONE
        try:
            if not job.body.begun and not _begin(t, job):
                return Rest.DONE
            failed = _copy_dirty(t, job.id)
            if failed:
                return _fail(t, job, failed)
            if job.body.behind:
                t.ev.meet(READY_TWICE)
            flush(t, job.body.target)
            body = t.jobs[job.id].body
            empty = body.empty and t.ev.holds(EMPTY_IS_EQUAL)
            lifecycle.change(t, job.id, body=attrs.evolve(body, synced=body.blocking or empty))
        except ImageError as error:
            t.ev.meet(defect(error))
        job = t.jobs[job.id]
        return Rest.DONE if job.complete or job.cancelled else Rest.READY

    def must_force(self, job: Job, *, force: bool) -> bool:
        """One that is ready may finish its copy."""
        return force or job.status not in ("ready", "standby")

    def details(self, job: Job) -> dict[str, Any]:
        """Whether every write goes to both sides by now."""
        return {"actively-synced": job.body.synced}

    def complete(self, t: Transition, job: Job) -> None:
        """From now on, what is to be replaced must stay as it is."""
        replaces = job.body.replaces
        if replaces is None:
            return
        t.ev.check(REPLACES_GONE, replaces in t.nodes, node=replaces)
        if job.replacing is not None:
            t.ev.meet(COMPLETED_TWICE)
        lifecycle.change(t, job.id, replacing=replaces)

    def prepare(self, t: Transition, job: Job) -> str | None:
        """Put the target in the place of the source, if that was asked for, and clean up."""
        return _end(t, job, pivot=job.complete)

    def abort(self, t: Transition, job: Job) -> None:
        """Clean up."""
        target = job.body.target
        t.keeping.append(target)
        # Where it could not pivot, all has been cleaned up but this.
        restores = job.body.read_only and not job.body.over
        _end(t, job, pivot=False)
        if restores and t.ev.holds(ABORT_READ_ONLY):
            chain_edits.try_read_only(t, target)
        t.keeping.remove(target)
        release(t, target)

    def lags(self, t: Transition, job: Job) -> bool:
        """Whether there is something dirty."""
        return bool(dirty_bitmaps.find(t, _noted(t, job), job.user).dirty)

    def drains(self, t: Transition, job: Job) -> str | None:
        """Between its work and its end nobody reads or writes the source."""
        return primary_child(t, job.body.filter) if job.status == "pending" else None


class ActiveCommitKind(MirrorKind):
    """A mirror to a node below."""

    type = "commit"
    command = "block-commit"

    def details(self, job: Job) -> dict[str, Any]:
        """Nothing; it cannot be told to write to both sides."""
        return {}


def _begin(t: Transition, job: Job) -> bool:
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
        and body.granularity < (cluster_size(t, body.target) or _LEAST_CHUNK)
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
    noted = _noted(t, job)
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


def _fail(t: Transition, job: Job, failed: list[_Request]) -> Rest:
    """Some of the target could not be written to; that stays dirty."""
    if len(failed) > 1:
        t.ev.meet(RACE)
    if job.body.on_error == "ignore":
        t.ev.meet(ENDLESS)
    lifecycle.change(t, job.id, body=attrs.evolve(t.jobs[job.id].body, synced=False))
    if job.status in ("ready", "standby"):
        lifecycle.change(t, job.id, body=attrs.evolve(t.jobs[job.id].body, behind=True))
    noted = _noted(t, job)
    bitmap = dirty_bitmaps.find(t, noted, job.user)
    dirty = bitmap.dirty
    for start, end, _ in failed:
        dirty = ranges.joined(dirty, *ranges.aligned(start, end, bitmap.granularity))
    dirty_bitmaps.put(t, noted, bitmap, dirty)
    lifecycle.change(t, job.id, total=t.jobs[job.id].current + ranges.count(dirty))
    return lifecycle.meet_error(t, job.id, job.body.on_error)


def _copy_dirty(t: Transition, job_id: str) -> list[_Request]:
    """Copy until nothing is dirty; returns what could not be written."""
    failed: list[_Request] = []
    job = t.jobs[job_id]
    body: Mirror = job.body
    dirty = dirty_bitmaps.find(t, _noted(t, job), job.user).dirty
    foresee(t, ranges.count(dirty) // body.buffer)
    race = Race(t, primary_child(t, body.filter), body.target)
    while True:
        job = t.jobs[job_id]
        source = primary_child(t, job.body.filter)
        noted = _noted(t, job)
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


class _Request(NamedTuple):
    """What happens to a range: "copy", "zero" or "discard"."""

    start: int
    end: int
    way: str


def _requests(t: Transition, job_id: str, source: str, start: int, end: int) -> list[_Request]:
    """How a range of dirty chunks is copied."""
    length = length_of(t, source)
    most = max(t.jobs[job_id].body.buffer // _IN_FLIGHT, _MOST_BYTES)
    found: list[_Request] = []
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
        request = _Request(offset, offset + min(count, length - offset), way)
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


def _as_copied(t: Transition, job: Job, source: str, request: _Request) -> _Request:
    """As much as is copied at once.

    Where the target has no backing file to copy the rest of a cluster from, that is copied, too.
    """
    body: Mirror = job.body
    start = request.start
    end = min(request.end, start + min(body.buffer, body.granularity * _MOST_PIECES))
    if body.aligned is None:
        return _Request(start, end, "copy")
    ends = (start, start + 1), (end - 1, end)
    if not all(ranges.within(body.aligned, *one) for one in ends):
        first, count = _round(t, body.target, start, end - start)
        most = body.granularity * _MOST_PIECES
        if count > most:
            count = most // CLUSTER * CLUSTER
        start, end = first, min(first + count, length_of(t, source))
    return _Request(start, end, "copy")


def _perform(t: Transition, job_id: str, source: str, request: _Request, race: Race) -> None:
    target = t.jobs[job_id].body.target
    start, end, way = request
    _know(t, job_id, start, end, zero=way == "zero")
    if way == "zero":
        requests.put(t, target, start, end, [], zeroes="unmap", insist=True)
    elif way == "discard":
        requests.discard(t, target, start, end)
    else:
        race.copy(source, target, start, end)
    _progress(t, job_id, request)


def _progress(t: Transition, job_id: str, request: _Request) -> None:
    done = t.jobs[job_id].current + request.end - request.start
    lifecycle.change(t, job_id, current=done)


def _is_there(body: Mirror, request: _Request) -> bool:
    """Whether zeroes that a request is to write are known to be there already."""
    return request.way == "zero" and target_zeroes.covers(body.zeroes, request.start, request.end)


def _know(t: Transition, job_id: str, start: int, end: int, *, zero: bool) -> None:
    """The target gets zeroes, or something else."""
    body: Mirror = t.jobs[job_id].body
    if body.zeroes is None:
        return
    change = ranges.joined if zero else ranges.without
    known = change(body.zeroes, *ranges.aligned(start, end, body.granularity))
    lifecycle.change(t, job_id, body=attrs.evolve(body, zeroes=known))


# The end


def _end(t: Transition, job: Job, *, pivot: bool) -> str | None:
    """Take the filter away, and put the target in the place of a node if it is to ``pivot``.

    Returns the error of a job that could not do so.
    """
    body: Mirror = job.body
    if body.over:
        return None
    job = lifecycle.change(t, job.id, body=attrs.evolve(body, over=True))
    source = primary_child(t, body.filter)
    if chain.contains(t, source, body.target) and t.ev.holds(FREEZES):
        unfreeze_chain(t, body.filter, body.target)
    noted = _noted(t, job)
    if pivot and dirty_bitmaps.find(t, noted, job.user).dirty:
        t.ev.meet(LOST_WRITE)
        try:
            _copy_dirty(t, job.id)
        except ImageError as unknown:
            t.ev.meet(defect(unknown))
    dirty_bitmaps.remove(t, noted, job.user)
    held = [body.filter, source, body.target]
    t.keeping += held
    block_backends.let_go(t, body.writer)
    _stop(t, body.filter)
    error = None
    if pivot and t.ev.holds(PIVOT):
        error = _pivot(t, job.replacing or source, source, body.target)
    replaced = job.replacing
    lifecycle.change(t, job.id, replacing=None)
    if replaced is not None:
        release(t, replaced)
    lifecycle.let_go(t, job.id)
    job_filters.step_aside(t, body.filter)
    lifecycle.settle_on(t, job.id, body.filter)
    for name in held:
        t.keeping.remove(name)
        release(t, name)
    return error


def _pivot(t: Transition, replaced: str, source: str, target: str) -> str | None:
    read_only = t.nodes[replaced].read_only
    if read_only != t.nodes[target].read_only and t.ev.holds(ALIGN_READ_ONLY):
        try:
            chain_edits.set_read_only(t, target, read_only=read_only)
        except Refusal as refusal:
            t.ev.refused.discard(refusal.rule.id)
    if not can_replace(t, source, replaced):
        return NOT_PERMITTED
    try:
        chain_edits.replace(t, replaced, target)
    except Refusal as refusal:
        t.ev.refused.discard(refusal.rule.id)
        return NOT_PERMITTED
    return None


def through_filter(t: Transition, node: Node, write: Write) -> None:
    """A guest writes through the filter: a mirror that blocks writes copies them at once."""
    if node.private.stopped:
        t.ev.meet(OUTLIVED)
    if write.unchanged and not node.private.passes_on:
        perm, _ = Permissions(t.nodes, {}).cumulative(node.name)
        if not perm & Perm.WRITE:
            t.ev.meet(COPIES_WITHOUT_RIGHT)
    requests.pass_on(t, primary_child(t, node.name), write)
    for job in list(t.jobs.values()):
        body = job.body
        if not isinstance(body, Mirror) or body.over or body.filter != node.name:
            continue
        if body.blocking:
            if job.status == "pending":
                raise ImageError(f"job {job.id!r} is at its end and lets nobody write; QEMU hangs")
            _write_both(t, job, write)
        elif any(bitmap.owner == job.user for bitmap in t.nodes[node.name].bitmaps):
            bitmap = dirty_bitmaps.find(t, node.name, job.user)
            chunks = ranges.aligned(write.start, write.end, bitmap.granularity)
            dirty_bitmaps.put(t, node.name, bitmap, ranges.joined(bitmap.dirty, *chunks))


def _write_both(t: Transition, job: Job, write: Write) -> None:
    body: Mirror = job.body
    if write.end > length_of(t, body.target):
        raise ShrunkError(f"the target of job {job.id!r} has become shorter; the job fails")
    if write.zeroes == "off" or not target_zeroes.covers(body.zeroes, write.start, write.end):
        if write.zeroes == "off":
            _know(t, job.id, write.start, write.end, zero=False)
        requests.pass_on(t, body.target, write)
    done = job.current + write.end - write.start
    lifecycle.change(t, job.id, current=done, total=job.total + write.end - write.start)


requests.PASSING["mirror_top"] = through_filter
