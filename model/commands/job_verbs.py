# SPDX-License-Identifier: GPL-2.0-or-later
"""The verbs of jobs, in the two families of commands that there are, and the queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from model.graph.job_kind import KINDS
from model.jobs import lifecycle
from model.jobs.lifecycle import CANCEL_PAUSED, UNKNOWN, UNKNOWN_BLOCK_JOB
from model.release.rules import effect
from model.release.scope import takes

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Job

DETAILS = effect(
    "query.job-details",
    "A query shows of a mirror whether every write goes to both sides by now.",
    source="10.0 (query-block-jobs)",
)

Verb = Callable[["Transition", dict[str, Any]], None]


def _job(t: Transition, arguments: dict[str, Any]) -> Job:
    t.ev.check(UNKNOWN, arguments["id"] in t.jobs)
    return t.jobs[arguments["id"]]


def _block_job(t: Transition, job_id: str) -> Job:
    if job_id not in t.jobs:
        t.ev.refuse(UNKNOWN_BLOCK_JOB, cls="DeviceNotActive", id=job_id)
    t.ev.accepted.add(UNKNOWN_BLOCK_JOB.id)
    return t.jobs[job_id]


def job_verb(verb: Callable[[Transition, Job], None]) -> Verb:
    """A command that has nothing but the ``id`` of a job."""

    @takes("id")
    def command(t: Transition, arguments: dict[str, Any]) -> None:
        verb(t, _job(t, arguments))

    return command


def block_job_verb(verb: Callable[[Transition, Job], None], member: str = "device") -> Verb:
    """A command that calls the job a ``device``, or by ``member``."""

    @takes(member)
    def command(t: Transition, arguments: dict[str, Any]) -> None:
        verb(t, _block_job(t, arguments[member]))

    return command


@takes("id")
def job_cancel(t: Transition, arguments: dict[str, Any]) -> None:
    """Stop a job, whatever becomes of its work."""
    lifecycle.cancel(t, _job(t, arguments), force=True)


@takes("device", "force")
def block_job_cancel(t: Transition, arguments: dict[str, Any]) -> None:
    """Stop a job; one that is ready leaves a complete copy behind unless it is forced."""
    force = arguments.get("force", False)
    job = _block_job(t, arguments["device"])
    t.ev.check(CANCEL_PAUSED, not job.paused or force, id=job.id)
    lifecycle.cancel(t, job, force=force)


@takes("device", "speed")
def block_job_set_speed(t: Transition, arguments: dict[str, Any]) -> None:
    """Limit a job's rate."""
    lifecycle.set_speed(t, _block_job(t, arguments["device"]), arguments["speed"])


@takes()
def query_jobs(t: Transition, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every job, newest first."""
    answer = []
    for job in reversed(t.jobs.values()):
        info: dict[str, Any] = {
            "id": job.id,
            "type": KINDS[job.type].type,
            "status": job.status,
            "current-progress": job.current,
            "total-progress": job.total,
        }
        if job.error is not None:
            info["error"] = job.error
        answer.append(info)
    return answer


@takes()
def query_block_jobs(t: Transition, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Every block job, newest first."""
    answer = []
    waiting = lifecycle.waiting(t)
    for job in reversed(t.jobs.values()):
        info: dict[str, Any] = {
            "device": job.id,
            "type": KINDS[job.type].type,
            "status": job.status,
            "len": job.total,
            "offset": job.current,
            "busy": False,
            "paused": job.paused or job.user in waiting,
            "ready": job.status in ("ready", "standby"),
            "speed": job.speed,
            "io-status": job.io_status,
            "auto-finalize": job.auto_finalize,
            "auto-dismiss": job.auto_dismiss,
        }
        if t.ev.holds(DETAILS):
            info.update(KINDS[job.type].details(job))
        reason = lifecycle.failure(t, job)
        if reason is not None:
            info["error"] = reason
        answer.append(info)
    return answer


VERBS: dict[str, Verb] = {
    "block-job-cancel": block_job_cancel,
    "block-job-complete": block_job_verb(lifecycle.complete),
    "block-job-dismiss": block_job_verb(lifecycle.dismiss, "id"),
    "block-job-finalize": block_job_verb(lifecycle.finalize, "id"),
    "block-job-pause": block_job_verb(lifecycle.pause),
    "block-job-resume": block_job_verb(lifecycle.resume),
    "block-job-set-speed": block_job_set_speed,
    "job-cancel": job_cancel,
    "job-complete": job_verb(lifecycle.complete),
    "job-dismiss": job_verb(lifecycle.dismiss),
    "job-finalize": job_verb(lifecycle.finalize),
    "job-pause": job_verb(lifecycle.pause),
    "job-resume": job_verb(lifecycle.resume),
}
"""The commands that are about one job, by name."""
