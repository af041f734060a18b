# SPDX-License-Identifier: GPL-2.0-or-later
"""block-stream: an image gets what it reads from the images below, which then go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data import requests
from model.data.block_status import ALLOCATED, RACE, Question, allocated_above, nothing_to, status
from model.data.copy import CHUNK
from model.drivers.copy_on_read import thaw
from model.edits import block_backends
from model.edits.links import release
from model.edits.users import remove_use
from model.graph.chain import (
    backing_of,
    by_filename,
    contains,
    downwards,
    next_below,
    overlay_above,
    skip_filters,
)
from model.graph.driver import driver_of
from model.graph.freezing import freeze_chain, unfreeze_chain
from model.graph.job_kind import JobKind, Rest
from model.graph.op_blockers import check_free
from model.graph.request_limits import take_limits
from model.graph.traversal import driver_at, filename_of, length_of, shares_below
from model.jobs import job_filters, lifecycle, mirror_copy
from model.jobs.in_flight import scattered
from model.jobs.lifecycle import change, create, fail_early, hold, sleeps, start
from model.operations.chain_edits import (
    can_name_backing,
    change_backing_file,
    replace,
    set_backing,
    set_read_only,
    try_read_only,
)
from model.operations.open import NO_NODE, Opening
from model.operations.reopen import SHARED_BELOW
from model.permissions.grants import graph_mod
from model.release.rules import Refusal, effect, guard, hazard
from model.release.scope import takes
from model.values.image_layout import ImageError
from model.values.state import FrozenDict, Job, Node, Perm

if TYPE_CHECKING:
    from model.graph.transition import Transition

BASE_TWICE = guard(
    "stream.two-bases",
    "The base is given by node or by file.",
    source="7.2",
    text="'base' and 'base-node' cannot be specified at the same time",
)
BASE_AND_BOTTOM = guard(
    "stream.base-and-bottom",
    "Either the base is given, or the last node that is streamed.",
    source="7.2",
    text="'base' and 'bottom' cannot be specified at the same time",
)
BOTTOM_AND_BASE = guard(
    "stream.bottom-and-base-node",
    "Either the base is given, or the last node that is streamed.",
    source="7.2",
    text="'bottom' and 'base-node' cannot be specified at the same time",
)
NO_BASE = guard(
    "stream.unknown-base",
    "The file that is to be the base is in the chain below the device.",
    source="7.2",
    text="Can't find '{base}' in the backing chain",
)
NO_BACKING = guard(
    "stream.off-chain",
    "The base lies below the device.",
    source="7.2",
    text="Node '{base}' is not a backing image of '{device}'",
)
BOTTOM_FILTER = guard(
    "stream.bottom-filter",
    "The last node that is streamed is no filter.",
    source="7.2",
    text="Node '{bottom}' is a filter, use a non-filter node as 'bottom'",
)
BOTTOM_OFF_CHAIN = guard(
    "stream.bottom-off-chain",
    "The last node that is streamed is in the device's chain.",
    source="7.2",
    text="Node '{bottom}' is not in a chain starting from '{device}'",
)
ENTIRE_CHAIN = guard(
    "stream.backing-file",
    "There is no backing file to be named where the whole chain is streamed.",
    source="7.2",
    text="backing file specified, but streaming the entire chain",
)
NO_OVERLAY = guard(
    "stream.no-overlay",
    "Between the device and the base there are not only filters.",
    source="7.2",
    text="'{base}' is not in the backing chain of '{device}'",
)
FILTER_STAYS = effect(
    "stream.filter-stays",
    "The filter keeps what it filters until nobody holds on to it, a job that is not dismissed "
    "included.",
    source="10.0; before, see hazard.orphaned-filter",
)

DEVICE_FIRST = effect(
    "stream.device-first",
    "The device is looked for before it is asked whether one base is given.",
    source="5.2",
)
CONFLICT = hazard(
    "hazard.stream-conflict",
    "A node between the image and the base of a stream has a user that writes to it.",
    source="5.2 does not expect that, and ends with an unexpected error",
)
HAS_FILTER = effect(
    "stream.filter",
    "A filter above the image reads and writes for the job, and freezes the chain.",
    source="6.0; before, the job does so itself",
)

FREEZES = effect(
    "stream.freezes",
    "A stream freezes the links from its image down to the last node that it copies from.",
    source="patch 4/13 (freeze the backing chain for the duration of the stream job); from 6.0 on "
    "its filter does that",
)

_READING = Perm.CONSISTENT_READ | Perm.WRITE_UNCHANGED


NAMES_BASE = effect(
    "stream.names-base",
    "The image names the base as its backing file when it has what lay between.",
    source="7.2",
)
TARGET_READ_ONLY = effect(
    "stream.target-read-only",
    "The image that was streamed to becomes read-only again if it was.",
    source="7.2",
)


@takes(
    *lifecycle.MEMBERS,
    "device",
    "base",
    "base-node",
    "bottom",
    "backing-file",
    "speed",
    "on-error",
    "filter-node-name",
    outside={"backing-mask-protocol": lifecycle.MASKED},
)
def block_stream(t: Transition, arguments: dict[str, Any]) -> None:
    """Copy what an image reads from below into it, down to a base."""
    ev = t.ev
    device = arguments["device"]
    if ev.holds(DEVICE_FIRST):
        ev.check(NO_NODE, device in t.nodes, device=device, node=device)
    ev.check(BASE_TWICE, not ("base" in arguments and "base-node" in arguments))
    ev.check(BASE_AND_BOTTOM, not ("base" in arguments and "bottom" in arguments))
    ev.check(BOTTOM_AND_BASE, not ("bottom" in arguments and "base-node" in arguments))
    ev.check(NO_NODE, device in t.nodes, device=device, node=device)
    base, bottom = _find_base(t, device, arguments), _find_bottom(t, device, arguments)
    end = base if bottom is None else next_below(t, bottom)
    for name in downwards(t, device, end):
        check_free(t, name, "stream")
    ev.check(ENTIRE_CHAIN, base is not None or "backing-file" not in arguments)
    overlay, above = _above_base(t, device, base) if bottom is None else (bottom, bottom)
    _start(t, arguments, device, overlay, above)


def _find_base(t: Transition, device: str, arguments: dict[str, Any]) -> str | None:
    ev = t.ev
    if "base" in arguments:
        found = by_filename(t, device, arguments["base"])
        ev.check(NO_BASE, found is not None, base=arguments["base"])
        return found
    if "base-node" not in arguments:
        return None
    base = str(arguments["base-node"])
    ev.check(NO_NODE, base in t.nodes, device="", node=base)
    below = base != device and contains(t, device, base)
    ev.check(NO_BACKING, below, base=base, device=device)
    return base


def _find_bottom(t: Transition, device: str, arguments: dict[str, Any]) -> str | None:
    ev = t.ev
    if "bottom" not in arguments:
        return None
    bottom = str(arguments["bottom"])
    ev.check(NO_NODE, bottom in t.nodes, device="", node=bottom)
    ev.check(BOTTOM_FILTER, not driver_at(t, bottom).is_filter, bottom=bottom)
    ev.check(BOTTOM_OFF_CHAIN, contains(t, device, bottom), bottom=bottom, device=device)
    return bottom


def _above_base(t: Transition, device: str, base: str | None) -> tuple[str, str]:
    """The image above the base, and the node just above it, perhaps a filter between the two."""
    overlay = overlay_above(t, device, base)
    if overlay is None:
        t.ev.refuse(NO_OVERLAY, base=base, device=device)
        return device, device
    t.ev.accepted.add(NO_OVERLAY.id)
    above = overlay
    while (below := next_below(t, above)) is not None and below != base:
        above = below
    return overlay, above


@attrs.frozen
class Body:
    """What a stream job remembers.

    ``filter`` is the node above ``target``, which gets the data; ``overlay`` the last image that
    it comes from, and ``above`` the node just above the base. ``reader`` is the key of the block
    backend. ``length`` is how much there is to look at, None before the job has begun, and
    ``offset`` how far it has come. ``on_error`` is what a client wants to be done where something
    cannot be read; ``frozen`` says that the job itself has frozen the chain, ``failed`` that
    something could not be read, and that was to be ignored.
    """

    filter: str | None
    target: str
    overlay: str
    above: str
    read_only: bool
    backing_file: str | None
    reader: str | None
    on_error: str
    frozen: bool = False
    length: int | None = None
    offset: int = 0
    failed: bool = False


def _start(t: Transition, arguments: dict[str, Any], target: str, overlay: str, above: str) -> None:
    if not t.ev.holds(HAS_FILTER):
        _start_bare(t, arguments, target, overlay, above)
        return
    read_only = t.nodes[target].read_only
    if read_only:
        freeze_chain(t, target, above)
        try:
            set_read_only(t, target, read_only=False)
        finally:
            unfreeze_chain(t, target, above)
    cor: str | None = None
    job: Job | None = None
    try:
        cor = _insert(t, target, overlay, arguments.get("filter-node-name"))
        job = create(t, "stream", arguments, cor, (0, Perm.ALL))
        shared = _READING | Perm.WRITE
        grant = (Perm.CONSISTENT_READ, shared)
        reader = lifecycle.take_backend(t, job, "stream", cor, grant, follows=True)
        hold(t, job, "active node", target, (0, shared))
        for name in list(downwards(t, next_below(t, target), next_below(t, above))):
            hold(t, job, "intermediate node", name, (0, _READING))
    except Refusal:
        if job is not None:
            fail_early(t, job.id)
        _drop(t, cor)
        if read_only:
            try_read_only(t, target)
        raise
    backing_file, on_error = arguments.get("backing-file"), arguments.get("on-error", "report")
    body = Body(cor, target, overlay, above, read_only, backing_file, reader, on_error)
    change(t, job.id, body=body)
    start(t, job.id)


def _start_bare(
    t: Transition, arguments: dict[str, Any], target: str, overlay: str, above: str
) -> None:
    """The same where no filter is put above the target."""
    read_only = t.nodes[target].read_only
    freezes = t.ev.holds(FREEZES)
    if freezes:
        freeze_chain(t, target, above)
    made_writable = False
    try:
        if read_only:
            set_read_only(t, target, read_only=False)
            made_writable = True
        grant = (_READING | graph_mod(t), _READING | Perm.WRITE)
        job = create(t, "stream", arguments, target, grant)
    except Refusal:
        if made_writable:
            try_read_only(t, target)
        if freezes:
            unfreeze_chain(t, target, above)
        raise
    base = next_below(t, above)
    for name in list(downwards(t, next_below(t, target), base)):
        try:
            hold(t, job, "intermediate node", name, (0, _READING))
        except Refusal:
            t.ev.meet(CONFLICT)
            raise
    backing_file = arguments.get("backing-file", arguments.get("base"))
    if backing_file is None and "base-node" in arguments:
        backing_file = filename_of(t, arguments["base-node"])
    on_error = arguments.get("on-error", "report")
    body = Body(None, target, overlay, above, read_only, backing_file, None, on_error, freezes)
    change(t, job.id, body=body)
    start(t, job.id)


def _insert(t: Transition, target: str, bottom: str, name: str | None) -> str:
    """Put a copy-on-read filter above the target, which freezes the chain down to ``bottom``."""
    before = dict(t.nodes)
    try:
        cor = Opening(t).name(name)
        job_filters.beware_of_iothread(t, target)
        options = {"driver": "copy-on-read", "file": target, "bottom": bottom}
        t.nodes[cor] = Node(cor, "copy-on-read", explicit=FrozenDict(options))
        driver_of("copy-on-read").open(Opening(t), cor, options)
        take_limits(t, cor)
    except Refusal as refusal:
        t.nodes = before
        raise refusal.prefixed("Could not create node: ") from None
    t.change(cor, options=FrozenDict({**options, **_FLAGS}))
    try:
        replace(t, target, cor)
    except Refusal as refusal:
        release(t, cor)
        raise refusal.prefixed("Could not replace node: ") from None
    t.change(cor, implicit=name is None)
    return cor


_FLAGS = {
    "cache.direct": False,
    "cache.no-flush": False,
    "read-only": False,
    "auto-read-only": False,
}


def _drop(t: Transition, cor: str | None) -> None:
    """Take the filter away, whose users go back to the target."""
    if cor is None or cor not in t.nodes:
        return
    thaw(t, cor)
    if t.ev.holds(FILTER_STAYS):
        job_filters.step_aside(t, cor)
    else:
        job_filters.drop(t, cor)


class Stream(JobKind):
    """Copies what comes from below into the target."""

    type = "stream"
    command = "block-stream"
    keeps_pace = True

    def run(self, t: Transition, job: Job) -> Rest:
        """Look at the target chunk by chunk, and lift what is not there."""
        body: Body = job.body
        if skip_filters(t, body.target) == body.overlay:
            return Rest.DONE
        if body.length is None:
            length = length_of(t, body.target)
            change(t, job.id, total=job.current + length, body=attrs.evolve(body, length=length))
        whole = backing_of(t, body.overlay) is None
        if whole and not t.ev.holds(HAS_FILTER):
            t.change(body.target, copies_on_read=True)
        try:
            rest = Rest.DONE if job.cancelled else self._lift(t, job.id)
        except ImageError as error:
            t.ev.meet(mirror_copy.defect(error))
            rest = Rest.DONE
        if rest is Rest.DONE:
            t.change(body.target, copies_on_read=False)
        return rest

    def _lift(self, t: Transition, job_id: str) -> Rest:
        job = t.jobs[job_id]
        body: Body = job.body
        length = body.length or 0
        chain = list(downwards(t, skip_filters(t, body.target), next_below(t, body.overlay)))
        while body.offset < length:
            start = body.offset
            end, copies = _look(t, body)
            if end == start:
                end = length
            elif not copies:
                end = nothing_to(t, chain, end, length)
            if copies and end > length_of(t, body.filter or body.target):
                # What is above has not noticed that the image is longer.
                rest = lifecycle.meet_error(t, job_id, body.on_error, "read")
                if rest is Rest.DONE or t.jobs[job_id].paused:
                    return rest
                body = attrs.evolve(body, failed=True)
            elif copies:
                requests.lift(t, body.target, start, end)
            body = attrs.evolve(body, offset=end)
            job = change(t, job_id, current=job.current + end - start, body=body)
            if copies and end < length and sleeps(job.speed, end - start):
                if scattered(t, body.target):
                    t.ev.meet(RACE)
                change(t, job_id, asleep=end - start)
                return Rest.SLEEPING
        if body.failed:
            change(t, job_id, error="Input/output error")
        return Rest.DONE

    def prepare(self, t: Transition, job: Job) -> str | None:
        """Let the target's image name the base as its backing file."""
        body: Body = job.body
        self.abort(t, job)
        _drop(t, body.filter)
        change(t, job.id, body=attrs.evolve(t.jobs[job.id].body, filter=None))
        image = skip_filters(t, body.target)
        if backing_of(t, image) is None:
            return None
        base = next_below(t, body.above)
        name, backing_format = self._backing_file(t, body, base)
        error = None
        shared = shares_below(t.nodes, body.above)
        try:
            set_backing(t, image, base)
        except Refusal as refusal:
            t.ev.refused.discard(refusal.rule.id)
            error = "Operation not permitted"
        drains = t.ev.holds(HAS_FILTER)
        if drains and (shared or shares_below(t.nodes, body.above)):
            t.ev.meet(SHARED_BELOW)
        nameless = name is None and backing_format is not None
        if nameless or not can_name_backing(t, image, name):
            return error or "Invalid argument"
        if t.ev.holds(NAMES_BASE):
            change_backing_file(t, image, name, backing_format)
        return error

    def _backing_file(
        self, t: Transition, body: Body, base: str | None
    ) -> tuple[str | None, str | None]:
        """What the image is to name as its backing file, and its format."""
        if base is None:
            return None, None
        if not t.ev.holds(HAS_FILTER):
            return body.backing_file, t.nodes[base].driver
        bottom = skip_filters(t, base)
        name = filename_of(t, bottom) if body.backing_file is None else body.backing_file
        return name, t.nodes[bottom].driver

    def abort(self, t: Transition, job: Job) -> None:
        """Let the chain be changed again, if the job itself has frozen it."""
        body: Body = job.body
        if body.frozen:
            unfreeze_chain(t, body.target, body.above)
            change(t, job.id, body=attrs.evolve(body, frozen=False))

    def clean(self, t: Transition, job: Job) -> None:
        """Take the filter away, and make the target read-only again if it was."""
        body: Body = t.jobs[job.id].body
        _drop(t, body.filter)
        block_backends.let_go(t, body.reader)
        if body.read_only and not t.ev.holds(HAS_FILTER):
            lifecycle.settle_on(t, job.id, body.target)
        if body.read_only and t.ev.holds(TARGET_READ_ONLY):
            try_read_only(t, body.target)
        leaves = t.ev.holds(HAS_FILTER) and not t.ev.holds(FILTER_STAYS)
        if leaves and not job.auto_dismiss:
            t.ev.meet(job_filters.ORPHANED_FILTER)
            remove_use(t, job.user, "main node")


def _look(t: Transition, body: Body) -> tuple[int, int]:
    """Up to where the next bytes go, and whether they come from an image between."""
    image = skip_filters(t, body.target)
    end, own = status(t, image, body.offset, body.offset + CHUNK, asked=Question.ALLOCATION)
    below = backing_of(t, image)
    if own & ALLOCATED or below is None:
        return end, 0
    return allocated_above(t, below, body.overlay, body.offset, end)
