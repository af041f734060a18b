# SPDX-License-Identifier: GPL-2.0-or-later
"""blockdev-mirror, and block-commit of an image that is in use.

Both keep a target equal to a source until they are told to end; what a commit mirrors to
lies below its source. A filter stands above the source, through which the source's users see
what they saw before; it goes when the job ends. What was written to the source and not yet
copied is noted down in a dirty bitmap of the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data import requests
from model.data.block_status import RACE
from model.data.length import flush
from model.drivers.mirror_top import OUTLIVED
from model.edits import block_backends
from model.edits.links import release
from model.graph import chain, dirty_bitmaps
from model.graph.freezing import unfreeze_chain
from model.graph.job_kind import JobKind, Rest
from model.graph.traversal import length_of, primary_child
from model.jobs import job_filters, lifecycle, target_zeroes
from model.jobs.lifecycle import ENDLESS
from model.jobs.mirror_copy import (
    Mirror,
    Request,
    begin,
    copy_dirty,
    defect,
    know_zeroes,
    noted_on,
)
from model.jobs.mirror_start import FREEZES, can_replace, stop
from model.operations import chain_edits
from model.permissions.grants import Permissions
from model.release.rules import Refusal, effect, guard, hazard
from model.values import ranges
from model.values.image_layout import ImageError, ShrunkError
from model.values.state import Perm

if TYPE_CHECKING:
    from model.data.requests import Write
    from model.graph.transition import Transition
    from model.values.state import Job, Node

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
            if not job.body.begun and not begin(t, job):
                return Rest.DONE
            failed = copy_dirty(t, job.id)
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
        return bool(dirty_bitmaps.find(t, noted_on(t, job), job.user).dirty)

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


def _fail(t: Transition, job: Job, failed: list[Request]) -> Rest:
    """Some of the target could not be written to; that stays dirty."""
    if len(failed) > 1:
        t.ev.meet(RACE)
    if job.body.on_error == "ignore":
        t.ev.meet(ENDLESS)
    lifecycle.change(t, job.id, body=attrs.evolve(t.jobs[job.id].body, synced=False))
    if job.status in ("ready", "standby"):
        lifecycle.change(t, job.id, body=attrs.evolve(t.jobs[job.id].body, behind=True))
    noted = noted_on(t, job)
    bitmap = dirty_bitmaps.find(t, noted, job.user)
    dirty = bitmap.dirty
    for start, end, _ in failed:
        dirty = ranges.joined(dirty, *ranges.aligned(start, end, bitmap.granularity))
    dirty_bitmaps.put(t, noted, bitmap, dirty)
    lifecycle.change(t, job.id, total=t.jobs[job.id].current + ranges.count(dirty))
    return lifecycle.meet_error(t, job.id, job.body.on_error)


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
    noted = noted_on(t, job)
    if pivot and dirty_bitmaps.find(t, noted, job.user).dirty:
        t.ev.meet(LOST_WRITE)
        try:
            copy_dirty(t, job.id)
        except ImageError as unknown:
            t.ev.meet(defect(unknown))
    dirty_bitmaps.remove(t, noted, job.user)
    held = [body.filter, source, body.target]
    t.keeping += held
    block_backends.let_go(t, body.writer)
    stop(t, body.filter)
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
            know_zeroes(t, job.id, write.start, write.end, zero=False)
        requests.pass_on(t, body.target, write)
    done = job.current + write.end - write.start
    lifecycle.change(t, job.id, current=done, total=job.total + write.end - write.start)


requests.PASSING["mirror_top"] = through_filter
