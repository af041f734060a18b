# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting a mirror, or a commit of the active layer, which is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from model.data.length import cluster_size
from model.drivers.mirror_top import MIRROR_PASSES_ON
from model.edits import block_backends
from model.graph import aio_contexts, chain, dirty_bitmaps
from model.graph.driver import driver_of
from model.graph.freezing import freeze_chain
from model.graph.op_blockers import check_free
from model.graph.traversal import length_of, primary_child
from model.jobs import job_filters, lifecycle
from model.jobs.mirror_copy import LEAST_CHUNK, MOST_CHUNK, Mirror
from model.operations import chain_edits
from model.operations.open import NO_NODE
from model.permissions.grants import Permissions
from model.permissions.refresh import loosen
from model.release.rules import Refusal, effect, guard
from model.release.scope import takes
from model.values.private import MirrorTopState
from model.values.state import Bitmap, Job, Perm, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition

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


FREEZES = effect(
    "mirror.freezes",
    "A mirror whose target lies in its own chain, as in an active commit, freezes the links from "
    "its filter down to it.",
    source="patch 3/13 (freeze the backing chain for the duration of the mirror job)",
)


COMMIT_WRITABLE = effect(
    "mirror.commit-writable",
    "The base of an active commit becomes writable, and stays so unless the job cannot start or "
    "replaces a node that is read-only.",
    source="7.2",
)


NOTES_ON_FILTER = effect(
    "mirror.notes-on-filter",
    "What is written through the filter of a mirror is noted down in a bitmap of the filter.",
    source="10.0; before, what is written to the source in whatever way, in a bitmap of the source",
)


_DEFAULT_CHUNK = 65536


_DEFAULT_BUFFER = 16 << 20


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
    in_range = granularity == 0 or LEAST_CHUNK <= granularity <= MOST_CHUNK
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
    stop(t, top)
    job_filters.step_aside(t, top)


def stop(t: Transition, top: str) -> None:
    """The filter requires nothing any more."""
    before = Permissions(dict(t.nodes), {})
    t.change(top, private=attrs.evolve(t.nodes[top].private, stopped=True))
    loosen(t, primary_child(t, top), before)
