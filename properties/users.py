# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds in every state of those who use the graph from outside: jobs and exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.jobs.lifecycle import PAUSE_WAKES
from model.values.state import Use

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from model.values.state import BlockState

_RESTING: Final = frozenset({"running", "paused", "ready", "standby", "pending", "concluded"})
"""Where a job comes to rest. The other states are passed within a command."""
_PAUSED: Final = frozenset({"paused", "standby"})
_LIVING: Final = _RESTING - {"concluded"}


def users_and_nodes_agree(state: BlockState) -> str | None:
    """Every link of a user is in its own list and in its node's, once in each."""
    for key, user in state.users.items():
        if user.key != key:
            return f"user {user.key!r} is filed under {key!r}"
        if len({name for name, _ in user.links}) != len(user.links):
            return f"user {key!r} has two links of one name"
        for name, child in user.links:
            node = state.nodes.get(child)
            if node is None:
                return f"user {key!r} uses {child!r}, which does not exist"
            uses = [x for x in node.parents if isinstance(x, Use) and x[:2] == (key, name)]
            if len(uses) != 1:
                return f"{child!r} knows {len(uses)} times of its user {key!r} ({name})"
    return None


def jobs_and_users_agree(state: BlockState) -> str | None:
    """Every job is one user of the graph, and every user that is a job is one."""
    of_jobs = {job.user for job in state.jobs.values()}
    kinds = {key for key, user in state.users.items() if user.kind == "block-job"}
    if of_jobs != kinds:
        return f"jobs and users differ: {', '.join(sorted(of_jobs ^ kinds))}"
    for job_id, job in state.jobs.items():
        if job.id != job_id or state.users[job.user].name != job_id:
            return f"job {job.id!r} is filed under {job_id!r}"
    return None


def exports_and_users_agree(state: BlockState) -> str | None:
    """Every export has a block backend of its own and a name of its own, and there is a server.

    That every block backend has an owner would be too much: jobs of 7.2 leave some behind.
    """
    known = {export.user for export in state.exports.values()}
    if len(known) != len(state.exports):
        return "two exports share a block backend"
    backends = {key for key, user in state.users.items() if user.kind == "block-backend"}
    if known - backends:
        return f"{min(known - backends)!r} has an export and no block backend"
    if state.exports and state.nbd_server is None:
        return "there are exports and no server"
    names = [export.export_name for export in state.exports.values()]
    if len(set(names)) != len(names):
        return "two exports have one name"
    return None


def jobs_are_at_rest(state: BlockState, dialect: Dialect) -> str | None:
    """Between two commands a job is where it stays by itself, and paused if it was told to.

    It also pauses as long as another one has drained a node below it, between work and end. Where
    a pause wakes nobody, one that sleeps or waits for others goes on doing so.
    """
    wakes = dialect.has(PAUSE_WAKES)
    draining = any(job.status == "pending" for job in state.jobs.values())
    for job in state.jobs.values():
        if job.status not in _RESTING:
            return f"job {job.id!r} is {job.status}"
        rests = job.status in _PAUSED
        kept = draining if rests else job.status == "running" and not wakes
        if job.status in _LIVING - {"pending"} and job.paused != rests and not kept:
            return f"job {job.id!r} is {job.status}, and paused is {job.paused}"
        if job.current > job.total or job.current < 0:
            return f"job {job.id!r} has done {job.current} of {job.total} bytes"
        if job.error is not None and job.status != "concluded":
            return f"job {job.id!r} has failed and is {job.status}"
    return None


def connected_nodes_share_a_context(state: BlockState) -> str | None:
    """A link has both its ends in one thread, and so has what a user holds on to."""
    for link in state.links():
        parent, child = state.nodes[link.parent], state.nodes[link.child]
        if parent.context != child.context:
            return (
                f"{link.parent!r} lives in {parent.context!r} and its child {link.child!r} in "
                f"{child.context!r}"
            )
    for key, user in state.users.items():
        for _, name in user.links:
            if state.nodes[name].context != user.context:
                return (
                    f"{key!r} works in {user.context!r} and uses {name!r} in "
                    f"{state.nodes[name].context!r}"
                )
    return None


def contexts_are_threads(state: BlockState) -> str | None:
    """Whatever lives in a thread finds it there; a device keeps one that was deleted."""
    kept = {device.iothread for device in state.devices.values()}
    for name, node in state.nodes.items():
        if node.context and node.context not in {*state.objects, *kept}:
            return f"{name!r} lives in {node.context!r}, which does not exist"
    return None
