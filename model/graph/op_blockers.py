# SPDX-License-Identifier: GPL-2.0-or-later
"""Operations that a node's users block: an overlay, a job, a job that is about to replace it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from model.release.rules import Rule, guard
from model.values.state import Role, Use

if TYPE_CHECKING:
    from model.graph.transition import Transition

Operation = Literal[
    "backup-source",
    "backup-target",
    "commit-source",
    "commit-target",
    "dataplane",
    "delete",
    "mirror-source",
    "mirror-target",
    "replace",
    "resize",
    "snapshot",
    "stream",
]

BUSY = guard(
    "node.busy",
    "A backing file is busy: it is neither deleted nor resized, nor the base of a snapshot nor "
    "mirrored.",
    source="7.2 (operation blockers)",
    text="Node '{node}' is busy: node is used as backing hd of '{overlay}'",
)
JOB_BUSY = guard(
    "node.busy-job",
    "A node that a job works on is busy.",
    source="7.2 (operation blockers)",
    text="Node '{node}' is busy: block device is in use by block job: {type}",
)
REPLACED_BUSY = guard(
    "node.busy-replaced",
    "A node that a completing job is going to replace is busy.",
    source="7.2 (operation blockers)",
    text="Node '{node}' is busy: block device is in use by block-job-complete",
)
_ON_BACKING = ("commit-target", "stream", "backup-source", "backup-target")
"""What may be done to a backing file."""
_MAIN_NODE = "main node"
"""The link to the filter of a job, which does not mind in which thread that is used."""


def blocked(t: Transition, node: str, operation: Operation) -> bool:
    """Whether somebody blocks an operation on a node."""
    return _blocker(t, node, operation) is not None


def check_free(t: Transition, node: str, operation: Operation) -> None:
    """Refuse an operation on a node that somebody blocks; the newest user that does is told."""
    found = _blocker(t, node, operation)
    if found is not None:
        rule, fields = found
        t.ev.refuse(rule, node=node, **fields)
    t.ev.accepted.update((BUSY.id, JOB_BUSY.id, REPLACED_BUSY.id))


def _blocker(t: Transition, node: str, operation: Operation) -> tuple[Rule, dict[str, str]] | None:
    for job in t.jobs.values():
        if job.replacing == node:
            return REPLACED_BUSY, {}
    for key in t.nodes[node].parents:
        if isinstance(key, Use):
            user = t.users[key.user]
            if operation == "dataplane" and key.label == _MAIN_NODE:
                continue
            if user.kind == "block-job":
                return JOB_BUSY, {"type": t.jobs[user.name].type.partition("-")[0]}
            continue
        link = t.nodes[key[0]].link(key[1])
        if link is not None and link.role & Role.COW and operation not in _ON_BACKING:
            return BUSY, {"overlay": link.parent}
    return None
