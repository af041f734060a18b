# SPDX-License-Identifier: GPL-2.0-or-later
"""block-commit: what the upper images of a chain hold goes down into a lower one.

A top image in the middle of the chain is copied, and then the images above the base go. The
active layer, and an image that somebody writes to, takes a job of another kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data import requests
from model.data.block_status import ALLOCATED, RACE, ZERO, Question, nothing_to, status_above
from model.data.copy import CHUNK, copy
from model.data.length import look_again
from model.edits import block_backends
from model.edits.users import remove_use
from model.graph.chain import (
    base_of,
    by_filename,
    contains,
    downwards,
    next_below,
    overlay_above,
    skip_filters,
)
from model.graph.driver import sectors
from model.graph.freezing import freeze_chain, unfreeze_chain
from model.graph.job_kind import JobKind, Rest
from model.graph.op_blockers import check_free
from model.graph.traversal import filename_of, length_of
from model.jobs import job_filters, lifecycle, mirror_copy, mirror_start
from model.jobs.in_flight import scattered
from model.jobs.lifecycle import ENDLESS, change, create, fail_early, hold, sleeps, start
from model.operations.chain_edits import (
    append,
    drop_between,
    new_node,
    set_read_only,
    try_read_only,
)
from model.operations.open import NO_NODE
from model.operations.resize import RESIZE_FIXED, RESIZE_READ_ONLY, RESIZE_UNSUPPORTED, truncate
from model.permissions.grants import Permissions
from model.release.rules import Refusal, effect, guard, hazard
from model.release.scope import takes
from model.values.image_layout import ImageError
from model.values.state import Job, Perm, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition

ZEROES_AS_SUCH = effect(
    "commit.zeroes-as-such",
    "A commit of an inactive image writes zeroes as such, and not as data.",
    source="10.0",
)
NO_DEVICE = guard(
    "commit.unknown-device",
    "The active layer exists.",
    source="7.2; libvirt goes by the class of this error",
    text="Device '{device}' not found",
)
ROOT = guard(
    "commit.root",
    "The active layer is no child of another node, nor does a job hold it.",
    source="7.2",
    text="Need a root block node",
)
TWO_TOPS = guard(
    "commit.two-tops",
    "The top is given by node or by file.",
    source="7.2",
    text="'top-node' and 'top' are mutually exclusive",
)
TWO_BASES = guard(
    "commit.two-bases",
    "The base is given by node or by file.",
    source="7.2",
    text="'base-node' and 'base' are mutually exclusive",
)
NO_TOP = guard(
    "commit.unknown-top",
    "The file that is to be the top is in the chain.",
    source="7.2",
    text="Top image file {top} not found",
)
OFF_CHAIN = guard(
    "commit.off-chain",
    "Top and base are in the chain, the base at or below the top.",
    source="7.2",
    text="'{node}' is not in this backing file chain",
)
NO_BASE = guard(
    "commit.unknown-base",
    "The file that is to be the base is in the chain below the top.",
    source="7.2",
    text="Can't find '{base}' in the backing chain",
)
INTO_ITSELF = guard(
    "commit.into-itself",
    "Top and base are two nodes.",
    source="7.2",
    text="cannot commit an image into itself",
)
SAME_IMAGE = guard(
    "commit.same-image",
    "Between top and base there are not only filters.",
    source="7.2",
    text="Invalid files for merge: top and base are the same",
)
ACTIVE_BACKING = guard(
    "commit.active-backing-file",
    "A commit of the active layer names no backing file, since no image above could record it.",
    source="7.2",
    text="'backing-file' specified, but 'top' is the active layer",
)
WRITER_BACKING = guard(
    "commit.writer-backing-file",
    "A job that ends by replacing a top that is written to writes no backing file names.",
    source="7.2",
    text="'backing-file' specified, but 'top' has a writer on it",
)

HALF_DROPPED = hazard(
    "hazard.commit-half-dropped",
    "A commit job takes its images out of the chain, and an overlay cannot be told of its new "
    "backing file.",
    source="7.2: the job takes that for a failure before anything was done, and goes on with its "
    "filter, which is gone",
)

_ERRNO = {
    RESIZE_FIXED.id: "Operation not supported",
    RESIZE_UNSUPPORTED.id: "Operation not supported",
    RESIZE_READ_ONLY.id: "Permission denied",
}


FREEZES = effect(
    "commit.freezes",
    "A commit freezes the links from its filter down to its base.",
    source="patch 2/13 (freeze the backing chain for the duration of the commit job)",
)
BASE_WRITABLE = effect(
    "commit.base-writable",
    "The base becomes writable for as long as the job lives.",
    source="7.2",
)
BASE_READ_ONLY = effect(
    "commit.base-read-only",
    "The base becomes read-only again if it was.",
    source="7.2",
)


@takes(
    *lifecycle.MEMBERS,
    "device",
    "base-node",
    "base",
    "top-node",
    "top",
    "backing-file",
    "speed",
    "on-error",
    "filter-node-name",
    outside={"backing-mask-protocol": lifecycle.MASKED},
)
def block_commit(t: Transition, arguments: dict[str, Any]) -> None:
    """Commit the images from a top down to a base into the base."""
    ev = t.ev
    device = arguments["device"]
    if device not in t.nodes:
        ev.refuse(NO_DEVICE, cls="DeviceNotFound", device=device)
    ev.accepted.add(NO_DEVICE.id)
    ev.check(ROOT, _is_root(t, device))
    check_free(t, device, "commit-source")
    top = _find_top(t, device, arguments)
    base = _find_base(t, top, arguments)
    for name in downwards(t, top, next_below(t, base)):
        check_free(t, name, "commit-target")
    ev.check(INTO_ITSELF, top != base)
    perm, _ = Permissions(t.nodes, {}).cumulative(top)
    active = skip_filters(t, top) == skip_filters(t, device)
    if perm & Perm.WRITE or active:
        rule = ACTIVE_BACKING if active else WRITER_BACKING
        ev.check(rule, "backing-file" not in arguments)
        mirror_start.start_active_commit(t, arguments, top, base, arguments.get("job-id", ""))
        return
    overlay = overlay_above(t, device, top)
    if overlay is not None:
        check_free(t, overlay, "commit-target")
    _start(t, arguments, device, top, base)


def _is_root(t: Transition, name: str) -> bool:
    parents = t.nodes[name].parents
    return all(
        isinstance(key, Use) and t.users[key.user].kind == "block-backend" for key in parents
    )


def _find_top(t: Transition, device: str, arguments: dict[str, Any]) -> str:
    ev = t.ev
    node, file = arguments.get("top-node"), arguments.get("top")
    ev.check(TWO_TOPS, node is None or file is None)
    if node is not None:
        ev.check(NO_NODE, node in t.nodes, device="", node=node)
        ev.check(OFF_CHAIN, contains(t, device, node), node=node)
        return str(node)
    if file is None or file == filename_of(t, device):
        return device
    found = by_filename(t, device, file)
    ev.check(NO_TOP, found is not None, top=file)
    return found or device


def _find_base(t: Transition, top: str, arguments: dict[str, Any]) -> str:
    ev = t.ev
    node, file = arguments.get("base-node"), arguments.get("base")
    ev.check(TWO_BASES, node is None or file is None)
    if node is not None:
        ev.check(NO_NODE, node in t.nodes, device="", node=node)
        ev.check(OFF_CHAIN, contains(t, top, node), node=node)
        return str(node)
    if file is None:
        return base_of(t, top)
    found = by_filename(t, top, file)
    ev.check(NO_BASE, found is not None, base=file)
    return found or top


@attrs.frozen
class Body:
    """What a commit job remembers.

    ``filter`` is the node above ``top``, ``overlay`` the image just above ``base``. ``writer`` and
    ``reader`` are the keys of its block backends. ``length`` is how much there is to copy, None
    before the job has begun, and ``offset`` how far it has come. ``on_error`` is what a client
    wants to be done about errors.
    """

    filter: str
    top: str
    base: str
    overlay: str
    base_read_only: bool
    backing_file: str | None
    frozen: bool = False
    writer: str | None = None
    reader: str | None = None
    length: int | None = None
    offset: int = 0
    on_error: str = "report"


def _start(t: Transition, arguments: dict[str, Any], device: str, top: str, base: str) -> None:
    same = skip_filters(t, top) == skip_filters(t, base)
    t.ev.check(SAME_IMAGE, not same)
    job = create(t, "commit", arguments, device, (0, Perm.ALL))
    overlay = overlay_above(t, top, base)
    if overlay is None:
        raise LookupError(f"nothing lies between {top!r} and {base!r}")
    read_only = t.nodes[base].read_only
    body = Body(
        "",
        top,
        base,
        overlay,
        read_only,
        arguments.get("backing-file"),
        on_error=arguments.get("on-error", "report"),
    )
    grows = length_of(t, base) < length_of(t, top)
    change(t, job.id, body=body)
    try:
        _prepare(t, job, arguments.get("filter-node-name"), grows=grows)
    except Refusal:
        _fail(t, job.id)
        raise
    start(t, job.id)


def _note(t: Transition, job_id: str, **changes: Any) -> Body:
    body: Body = attrs.evolve(t.jobs[job_id].body, **changes)
    change(t, job_id, body=body)
    return body


def _prepare(t: Transition, job: Job, filter_name: str | None, *, grows: bool) -> None:
    """Make the base writable, put the filter in its place and hold on to the chain."""
    body: Body = t.jobs[job.id].body
    top, base = body.top, body.base
    if body.base_read_only and t.ev.holds(BASE_WRITABLE):
        set_read_only(t, base, read_only=False)
    name = new_node(
        t,
        "commit_top",
        filter_name,
        read_only=True,
        implicit=filter_name is None,
        never_frozen=True,
        size=sectors(length_of(t, top)),
    )
    append(t, name, top)
    _note(t, job.id, filter=name)
    below_overlay = next_below(t, body.overlay)
    shared = Perm.WRITE_UNCHANGED | Perm.WRITE
    for each in list(downwards(t, top, base)):
        if each == below_overlay:
            # From here on there are only filters, and what they show stays what it was.
            shared |= Perm.CONSISTENT_READ
        hold(t, job, "intermediate node", each, (0, shared))
    if t.ev.holds(FREEZES):
        freeze_chain(t, name, base)
        _note(t, job.id, frozen=True)
    hold(t, job, "base", base, (0, Perm.ALL))
    perm = Perm.CONSISTENT_READ | Perm.WRITE | (Perm.RESIZE if grows else 0)
    grant = (perm, Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED | Perm.GRAPH_MOD)
    _note(t, job.id, writer=lifecycle.take_backend(t, job, "base", base, grant))
    _note(t, job.id, reader=lifecycle.take_backend(t, job, "top", top, (0, Perm.ALL)))


def _fail(t: Transition, job_id: str) -> None:
    """Take back what a job that cannot start has done so far."""
    body: Body = t.jobs[job_id].body
    if body.frozen:
        _unfreeze(t, body)
    block_backends.let_go(t, body.writer)
    block_backends.let_go(t, body.reader)
    if body.base_read_only:
        try_read_only(t, body.base)
    fail_early(t, job_id)
    if body.filter:
        job_filters.step_aside(t, body.filter)


def _unfreeze(t: Transition, body: Body) -> None:
    unfreeze_chain(t, body.filter if body.filter in t.nodes else body.top, body.base)


class Commit(JobKind):
    """Copies what is allocated above the base into the base."""

    type = "commit"
    command = "block-commit"
    keeps_pace = True

    def run(self, t: Transition, job: Job) -> Rest:
        """Make the base long enough, then copy chunk by chunk."""
        body: Body = job.body
        if body.length is None:
            length = length_of(t, body.top)
            job = change(t, job.id, total=job.current + length)
            body = _note(t, job.id, length=length)
            if length_of(t, body.base) < length and not self._grow(t, job, length):
                return Rest.DONE
        if job.cancelled:
            return Rest.DONE
        try:
            return self._copy(t, job.id)
        except ImageError as error:
            t.ev.meet(mirror_copy.defect(error))
            return Rest.DONE

    def _grow(self, t: Transition, job: Job, length: int) -> bool:
        body: Body = job.body
        try:
            truncate(t, body.base, length)
        except Refusal as refusal:
            t.ev.refused.discard(refusal.rule.id)
            change(t, job.id, error=_ERRNO.get(refusal.rule.id, "Invalid argument"))
            return False
        look_again(t)
        return True

    def _copy(self, t: Transition, job_id: str) -> Rest:
        job = t.jobs[job_id]
        body: Body = job.body
        length = body.length or 0
        chain = list(downwards(t, body.top, next_below(t, body.overlay)))
        while body.offset < length:
            start, limit = body.offset, body.offset + CHUNK
            as_such = t.ev.holds(ZEROES_AS_SUCH)
            end, flags = status_above(
                t,
                body.top,
                body.overlay,
                start,
                limit,
                asked=Question.ALL if as_such else Question.ALLOCATION,
                include_base=True,
            )
            copies = bool(flags & ALLOCATED)
            if end == start:
                # Behind the end of the image there is nothing to copy, as for a stream job.
                t.ev.meet(ENDLESS)
                end = length
            elif not copies:
                end = nothing_to(t, chain, end, length)
            if copies and end > length_of(t, body.base):
                if body.on_error == "ignore":
                    t.ev.meet(ENDLESS)
                return lifecycle.meet_error(t, job_id, body.on_error)
            if copies and as_such and flags & ZERO:
                requests.put(t, body.base, start, end, [], zeroes="unmap")
            elif copies:
                copy(t, body.top, body.base, start, end)
            body = _note(t, job_id, offset=end)
            job = change(t, job_id, current=job.current + end - start)
            if copies and end < length and sleeps(job.speed, end - start):
                if scattered(t, body.top):
                    t.ev.meet(RACE)
                change(t, job_id, asleep=end - start)
                return Rest.SLEEPING
        return Rest.DONE

    def prepare(self, t: Transition, job: Job) -> str | None:
        """Take the images between the base and the overlay of the top out of the chain."""
        body: Body = job.body
        if body.frozen:
            _unfreeze(t, body)
        block_backends.let_go(t, body.writer)
        _note(t, job.id, frozen=False, writer=None)
        if body.filter not in t.nodes:
            return None
        error = drop_between(t, body.filter, body.base, body.backing_file)
        if error is not None and body.filter not in t.nodes:
            t.ev.meet(HALF_DROPPED)
        return error

    def abort(self, t: Transition, job: Job) -> None:
        """Take the filter away; what has been copied stays in the base."""
        body: Body = job.body
        if body.frozen:
            _unfreeze(t, body)
        block_backends.let_go(t, body.writer)
        while t.users[job.user].links:
            remove_use(t, job.user, t.users[job.user].links[0][0])
        if body.filter in t.nodes:
            job_filters.step_aside(t, body.filter)

    def clean(self, t: Transition, job: Job) -> None:
        """Make the base read-only again if it was."""
        body: Body = job.body
        if body.base_read_only and t.ev.holds(BASE_READ_ONLY):
            try_read_only(t, body.base)
        block_backends.let_go(t, body.reader)
