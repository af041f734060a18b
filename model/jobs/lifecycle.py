# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a job: its states, the verbs that they take, and what clients hear of it.

A job works by itself. What it does until it comes to rest happens here within the command
that sets it going; ``settling`` of a transition says which jobs a client has to
wait for before it sees that. What a job does is the business of its kind
(:mod:`model.jobs`).

Draining pauses a job for a moment, which clients hear of, too; how often that happens is
QEMU's own business and is not modelled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

from model.edits import block_backends
from model.edits.users import add_use, remove_use, remove_user
from model.graph.job_kind import KINDS, Rest
from model.release.rules import Refusal, effect, guard, hazard, outside
from model.release.scope import Outside
from model.values.state import Job, Perm, Use, User

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Grant

ID_FORM = guard(
    "job.id",
    "A job's name begins with a letter and has letters, digits, '-', '.' and '_'; "
    "without devices there is no name by default.",
    source="7.2",
    text="Invalid job ID '{id}'",
)
ID_TAKEN = guard(
    "job.id-taken",
    "Job names are unique.",
    source="7.2",
    text="Job ID '{id}' already in use",
)
SPEED = guard(
    "job.speed",
    "A speed is not negative.",
    source="7.2",
    text="Parameter 'speed' expects a non-negative value",
)
OWN_BACKEND = effect(
    "job.own-backend",
    "What a job requires of its main node it requires through a block backend, which it has before "
    "anything else and until it is forgotten.",
    source="5.2",
)
SIZES_DIFFER = "Source and target image have different sizes"
"""The error of a mirror whose source and target are not equally long."""
PAUSE_WAKES = effect(
    "job.pause-wakes",
    "A job that is told to pause is woken for that where it sleeps or waits for others.",
    source="6.0; before, it goes on sleeping as if nothing had been said",
)
COMPLETES_IN_STANDBY = effect(
    "job.completes-in-standby",
    "A job that is ready and paused can be told to complete.",
    source="6.1",
)
BLOCK_JOBS_SAY_WHY = effect(
    "job.block-jobs-say-why",
    "Block jobs give the reason of their failure in their own words.",
    source="6.0; before, only query-jobs does, the others tell what the host would say",
)
SLEEPS_ON = effect(
    "job.sleeps-on",
    "A job that is woken while it sleeps because of its speed limit goes on sleeping.",
    source="10.0; before, a pause or drain let one more chunk through",
)
UNKNOWN = guard(
    "job.unknown",
    "The job that a verb is about exists.",
    source="7.2, job-* commands",
    text="Job not found",
)
UNKNOWN_BLOCK_JOB = guard(
    "job.unknown-block-job",
    "The job that a verb is about exists.",
    source="7.2, block-job-* commands",
    text="Block job '{id}' not found",
)
VERB = guard(
    "job.verb",
    "A job takes only the verbs of its state.",
    source="7.2: the table of verbs and states",
    text="Job '{id}' in state '{status}' cannot accept command verb '{verb}'",
)
PAUSED_ALREADY = guard(
    "job.paused-already",
    "A job is paused once.",
    source="7.2",
    text="Job is already paused",
)
NOT_PAUSED = guard(
    "job.not-paused",
    "Only a job that a client paused is resumed.",
    source="7.2",
    text="Can't resume a job that was not paused",
)
CANNOT_COMPLETE = guard(
    "job.cannot-complete",
    "Only jobs that keep two images equal are completed, and only while they do.",
    source="7.2",
    text="The active block job '{id}' cannot be completed",
    unreachable="only jobs that can be completed are ever ready, and they end when cancelled there",
)
CANCEL_PAUSED = guard(
    "job.cancel-paused",
    "A paused job is cancelled by force only.",
    source="7.2, block-job-cancel",
    text="The block job for device '{id}' is currently paused",
)

WAITS_FOR_CLIENT = effect(
    "job.waits-for-client",
    "Without auto-finalize a job that has done its work changes the graph only when it is told to.",
    source="7.2",
)
KEPT = effect(
    "job.kept",
    "Without auto-dismiss a job that has ended stays in the list until it is taken away.",
    source="7.2",
)
PENDING_HEARD = effect(
    "job.pending-heard",
    "Clients hear that a job waits for them.",
    source="7.2",
)
READY_HEARD = effect(
    "job.ready-heard",
    "Clients hear that a job keeps two images equal from now on.",
    source="7.2",
)
CANCEL_HEARD = effect(
    "job.cancel-heard",
    "Clients hear that a job was cancelled, and not that it has completed.",
    source="7.2",
)
RESUMED = effect(
    "job.cancel-resumes",
    "A paused job that is cancelled is paused no more.",
    source="7.2",
)
OTHERS_WAIT = effect(
    "job.others-wait",
    "A job above a node that another job has drained waits until that one goes on.",
    source="7.2",
)

ERROR_HEARD = effect(
    "job.error-heard",
    "Clients hear of an error that a job meets, and what is done about it.",
    source="7.2",
)
ERROR_STOPS = effect(
    "job.error-stops",
    "A job that is to stop on errors is paused, as if a client had done so.",
    source="7.2",
)

ENDLESS = hazard(
    "hazard.job-endless",
    "The top of a commit job is a filter that is longer than its image: one that did not notice "
    "that this became shorter, or a blkverify node, which is as long as the image under test; or "
    "the image that a job writes to has become shorter, and errors are to be ignored.",
    source="7.2 asks for ever what lies behind the end of the image, and learns of no bytes; or "
    "tries for ever to write there",
)

PACE = outside(
    "outside.pace",
    "A mirror, an active commit or a backup that has a speed copies no more than that lets through "
    "at once.",
    text="a {type} job that is slowed down by its speed is not modelled",
)

MEMBERS = ("job-id", "auto-finalize", "auto-dismiss")
"""What every command that starts a job takes."""
PACED = Outside("how a job sleeps", when="the job has more to copy than it may at once")
MASKED = Outside("what an image says of the format of its backing file", unless=(False,))
NO_READ_ERRORS = (
    "it is asked for only where the source cannot be read, and from there on the spec knows nothing"
)

CANCELLED = "Operation canceled"
"""The error of a job that was cancelled."""

_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*\Z")
Status: TypeAlias = Literal[
    "created",
    "running",
    "paused",
    "ready",
    "standby",
    "waiting",
    "pending",
    "aborting",
    "concluded",
    "null",
]
"""The states of a job in the order of a life, as QMP calls them; "null": there is no such job."""

_ALIVE = frozenset({"created", "running", "paused", "ready", "standby"})
_VERBS: dict[str, frozenset[str]] = {
    "cancel": _ALIVE | {"waiting", "pending"},
    "pause": _ALIVE,
    "resume": _ALIVE,
    "set-speed": _ALIVE,
    "complete": frozenset({"ready", "standby"}),
    "finalize": frozenset({"pending"}),
    "dismiss": frozenset({"concluded"}),
}
_READY = ("ready", "standby")
_ERRNO = {SIZES_DIFFER: "Invalid argument"}
"""What the host would say instead of a job's own words."""
_GOING = ("ready", "running")
_HELD = ("standby", "paused")


def change(t: Transition, job_id: str, **changes: Any) -> Job:
    """Replace fields of a job."""
    job = t.jobs[job_id] = attrs.evolve(t.jobs[job_id], **changes)
    return job


_SLICES = 10
"""Into how many slices a job divides a second; each lets so much through at once."""


def _move(t: Transition, job_id: str, status: str) -> None:
    """Go over to another status; clients hear of it."""
    if t.jobs[job_id].status != status:
        change(t, job_id, status=status)
        _tell_status(t, job_id, status)


def _tell_status(t: Transition, job_id: str, status: str) -> None:
    t.events.append({"event": "JOB_STATUS_CHANGE", "data": {"status": status, "id": job_id}})


def _tell(t: Transition, job: Job, event: str, **more: Any) -> None:
    data = {"device": job.id, "type": KINDS[job.type].type, **more}
    t.events.append({"event": event, "data": data})


def _progress(job: Job) -> dict[str, int]:
    return {"len": job.total, "offset": job.current, "speed": job.speed}


# The beginning


def create(t: Transition, kind: str, arguments: dict[str, Any], node: str, grant: Grant) -> Job:
    """Make a job that holds on to ``node``, its main node, with what it requires and shares.

    ``arguments`` are those of the command. Raises :class:`Refusal`; clients hear of a job that
    fails so early, too.
    """
    job_id = arguments.get("job-id", "")
    if not t.ev.holds(OWN_BACKEND):
        return _create(t, kind, arguments, node, grant)
    context = t.nodes[node].context
    backend = block_backends.take(
        t, f"blk:{job_id}:job", node, grant, context=context, follows=True
    )
    try:
        job = _create(t, kind, arguments, node, (0, Perm.ALL))
    except Refusal:
        block_backends.let_go(t, backend)
        raise
    return change(t, job.id, backend=backend)


def _create(t: Transition, kind: str, arguments: dict[str, Any], node: str, grant: Grant) -> Job:
    job_id = arguments.get("job-id", "")
    t.ev.check(ID_FORM, _ID.match(job_id), id=job_id)
    t.ev.check(ID_TAKEN, job_id not in t.jobs, id=job_id)
    job = Job(
        job_id,
        kind,
        auto_finalize=arguments.get("auto-finalize", True),
        auto_dismiss=arguments.get("auto-dismiss", True),
        speed=arguments.get("speed", 0),
    )
    t.jobs[job_id] = job
    t.add_user(
        User(job.user, "block-job", job_id, context=t.nodes[node].context),
    )
    _tell_status(t, job_id, "created")
    try:
        hold(t, job, "main node", node, grant)
        t.ev.check(SPEED, job.speed >= 0)
    except Refusal:
        fail_early(t, job_id)
        raise
    return job


def hold(t: Transition, job: Job, label: str, node: str, grant: Grant) -> None:
    """Let a job hold on to one more node, under a name for the link. Raises :class:`Refusal`."""
    description = f"{KINDS[job.type].type} job '{job.id}'"
    add_use(t, job.user, label, node, grant, stays=True, description=description)


def let_go(t: Transition, job_id: str) -> None:
    """Let a job no longer hold on to anything, though it is still there."""
    user = t.jobs[job_id].user
    while t.users[user].links:
        remove_use(t, user, t.users[user].links[0][0])


def settle_on(t: Transition, job_id: str, node: str) -> None:
    """Let the backend of a job that is done hold on to ``node``, and require nothing."""
    job = t.jobs[job_id]
    if job.backend is not None:
        block_backends.put(t, job.backend, node, (0, Perm.ALL))


def take_backend(
    t: Transition, job: Job, purpose: str, node: str, grant: Grant, *, follows: bool = False
) -> str:
    """Give a job a block backend on a node; returns its key. Raises :class:`Refusal`.

    It ``follows`` its node to other contexts later, but does not go to where that is now.
    """
    key = f"blk:{job.id}:{purpose}"
    context = t.users[job.user].context
    key = block_backends.take(t, key, node, grant, context=context)
    t.users[key] = attrs.evolve(t.users[key], follows=follows)
    return key


def fail_early(t: Transition, job_id: str) -> None:
    """Forget a job that never started."""
    _forget(t, job_id)


def _forget(t: Transition, job_id: str) -> None:
    job = t.jobs[job_id]
    _tell_status(t, job_id, "null")
    remove_user(t, job.user)
    block_backends.let_go(t, job.backend)
    del t.jobs[job_id]


def start(t: Transition, job_id: str) -> None:
    """Let a job that was made run."""
    _move(t, job_id, "running")
    _enter(t, job_id)


# The middle


def _enter(t: Transition, job_id: str) -> None:
    """Let the job go on until it rests."""
    job = t.jobs[job_id]
    t.settling[job_id] = (job.status, None)
    if (job.paused or job.user in waiting(t)) and not job.forced:
        _pause(t, job_id)
        _settle(t, job_id)
        return
    resumed = {"standby": "ready", "paused": "running"}.get(job.status)
    if resumed is not None:
        change(t, job_id, paused_in="")
        _move(t, job_id, resumed)
    before = job.current
    rest = _run(t, t.jobs[job_id])
    sleeping: int | None = None
    if rest is Rest.READY and t.jobs[job_id].status != "ready":
        _move(t, job_id, "ready")
        if t.ev.holds(READY_HEARD):
            _tell(t, t.jobs[job_id], "BLOCK_JOB_READY", **_progress(t.jobs[job_id]))
    elif rest is Rest.SLEEPING or (rest is Rest.READY and t.jobs[job_id].current != before):
        sleeping = t.jobs[job_id].current
    elif rest is Rest.DONE:
        _leave(t, job_id)
    elif t.jobs[job_id].paused:
        _pause(t, job_id)
    _settle(t, job_id, sleeping)


def _pause(t: Transition, job_id: str) -> None:
    """Stop where the job is; it stays there though its nodes may move, until it goes on."""
    job = change(t, job_id, paused_in=t.users[t.jobs[job_id].user].context)
    _move(t, job_id, "standby" if job.status in _READY else "paused")


def failure(t: Transition, job: Job) -> str | None:
    """Why a job has failed, as the events and queries of block jobs tell it."""
    if job.error is None or t.ev.holds(BLOCK_JOBS_SAY_WHY):
        return job.error
    return _ERRNO.get(job.error, job.error)


def sleeps(speed: int, length: int) -> bool:
    """Whether a job of a limited ``speed`` (bytes per second) sleeps when it has copied this."""
    return speed > 0 and length >= max(speed // _SLICES, 1)


def _run(t: Transition, job: Job) -> Rest:
    """Go on with the work, unless the job is to sleep on."""
    asked_to_end = job.forced or job.cancelled
    if not asked_to_end and sleeps(job.speed, job.asleep) and t.ev.holds(SLEEPS_ON):
        return Rest.SLEEPING
    kind = KINDS[job.type]
    rest = kind.run(t, job)
    if job.speed and not kind.keeps_pace:
        copied = t.jobs[job.id].current - job.current
        if sleeps(job.speed, copied):
            t.ev.leave(PACE, f"{kind.command}.speed", type=kind.type)
    if rest is not Rest.SLEEPING:
        change(t, job.id, asleep=0)
    return rest


def meet_error(t: Transition, job_id: str, on_error: str, operation: str = "write") -> Rest:
    """A write or a read has failed: do what a client wants to be done ``on_error``."""
    action = on_error if on_error in {"stop", "ignore"} else "report"
    if t.ev.holds(ERROR_HEARD):
        data = {"device": job_id, "operation": operation, "action": action}
        t.events.append({"event": "BLOCK_JOB_ERROR", "data": data})
    if action == "report":
        change(t, job_id, error="Input/output error")
        return Rest.DONE
    if action == "stop" and t.ev.holds(ERROR_STOPS):
        change(t, job_id, paused=True, io_status="failed")
    return Rest.WORKING


def _settle(t: Transition, job_id: str, progress: int | None = None) -> None:
    """Note what a client has to wait for."""
    status = t.jobs[job_id].status if job_id in t.jobs else "null"
    t.settling[job_id] = (status, progress)


def _leave(t: Transition, job_id: str) -> None:
    """The work is over: wait for the client, or end."""
    job = t.jobs[job_id]
    if job.forced and job.error is None:
        job = change(t, job_id, error=CANCELLED)
    if job.error is not None:
        _abort(t, job_id)
        return
    _move(t, job_id, "waiting")
    _move(t, job_id, "pending")
    if job.auto_finalize or not t.ev.holds(WAITS_FOR_CLIENT):
        _finalize(t, job_id)
    elif t.ev.holds(PENDING_HEARD):
        data = {"type": KINDS[job.type].type, "id": job_id}
        t.events.append({"event": "BLOCK_JOB_PENDING", "data": data})


def wake(t: Transition) -> None:
    """Somebody has written: jobs that keep images equal notice that by themselves."""
    for job in list(t.jobs.values()):
        if job.status == "ready" and not job.paused and KINDS[job.type].lags(t, job):
            _enter(t, job.id)


def drained(t: Transition) -> list[str]:
    """The nodes that jobs have drained."""
    found = [KINDS[job.type].drains(t, job) for job in t.jobs.values()]
    return [node for node in found if node is not None]


def waiting(t: Transition) -> set[str]:
    """The keys of the users that have to wait for a job which has drained a node below them."""
    stack = drained(t)
    if stack and not t.ev.holds(OTHERS_WAIT):
        return set()
    users: set[str] = set()
    seen: set[str] = set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        for key in t.nodes[name].parents:
            if isinstance(key, Use):
                users.add(key.user)
            else:
                stack.append(key[0])
    return users


def attend(t: Transition) -> None:
    """A command is through: jobs above a node that is drained by now wait, and others go on.

    What one job has written another one may have to copy.
    """
    wake(t)
    for job in list(t.jobs.values()):
        held = job.user in waiting(t)
        if job.status in (_HELD if not held and not job.paused else _GOING if held else ()):
            _enter(t, job.id)


# The end


def _finalize(t: Transition, job_id: str) -> None:
    job = t.jobs[job_id]
    error = KINDS[job.type].prepare(t, job)
    if error is not None:
        change(t, job_id, error=error)
        _abort(t, job_id)
        return
    _conclude(t, job_id)


def _abort(t: Transition, job_id: str) -> None:
    _move(t, job_id, "aborting")
    job = t.jobs[job_id]
    KINDS[job.type].abort(t, job)
    _conclude(t, job_id)


def _conclude(t: Transition, job_id: str) -> None:
    job = t.jobs[job_id]
    KINDS[job.type].clean(t, job)
    job = t.jobs[job_id]
    if job.forced and t.ev.holds(CANCEL_HEARD):
        _tell(t, job, "BLOCK_JOB_CANCELLED", **_progress(job))
    else:
        reason = failure(t, job)
        error = {} if reason is None else {"error": reason}
        _tell(t, job, "BLOCK_JOB_COMPLETED", **_progress(job), **error)
    _move(t, job_id, "concluded")
    if job.auto_dismiss or not t.ev.holds(KEPT):
        _forget(t, job_id)


# Verbs


def _apply(t: Transition, job: Job, verb: str) -> None:
    allowed = job.status in _VERBS[verb]
    if verb == "complete" and job.status == "standby":
        allowed = t.ev.holds(COMPLETES_IN_STANDBY)
    t.ev.check(VERB, allowed, id=job.id, status=job.status, verb=verb)


def cancel(t: Transition, job: Job, *, force: bool) -> None:
    """Ask a job to stop; without ``force`` it may finish first what keeps its images of use."""
    _apply(t, job, "cancel")
    force = KINDS[job.type].must_force(job, force=force)
    resting = job.status == "pending"
    if force or not resting:
        job = change(t, job.id, cancelled=True, forced=job.forced or force)
    if job.paused and t.ev.holds(RESUMED):
        change(t, job.id, paused=False, io_status="ok")
    if resting:
        change(t, job.id, error=CANCELLED)
        _abort(t, job.id)
    else:
        _enter(t, job.id)


def pause(t: Transition, job: Job) -> None:
    """Ask a job to pause."""
    _apply(t, job, "pause")
    t.ev.check(PAUSED_ALREADY, not job.paused)
    change(t, job.id, paused=True)
    if job.status != "running" or t.ev.holds(PAUSE_WAKES):
        _enter(t, job.id)


def resume(t: Transition, job: Job) -> None:
    """Let a paused job go on."""
    t.ev.check(NOT_PAUSED, job.paused)
    _apply(t, job, "resume")
    change(t, job.id, paused=False, io_status="ok")
    if job.status != "running" or t.ev.holds(PAUSE_WAKES):
        _enter(t, job.id)


def set_speed(t: Transition, job: Job, speed: int) -> None:
    """Limit a job to ``speed`` bytes per second, or not at all if that is 0."""
    _apply(t, job, "set-speed")
    t.ev.check(SPEED, speed >= 0)
    old = job.speed
    change(t, job.id, speed=speed)
    # Only one that sleeps is woken; one that waits for others notices nothing.
    idle = job.paused and not job.asleep
    if job.status == "running" and old and (speed == 0 or speed > old) and not idle:
        _enter(t, job.id)


def complete(t: Transition, job: Job) -> None:
    """Let a job that is ready end."""
    _apply(t, job, "complete")
    kind = KINDS[job.type]
    t.ev.check(CANNOT_COMPLETE, not job.cancelled and kind.can_complete, id=job.id)
    kind.complete(t, job)
    change(t, job.id, complete=True)
    if not job.paused:
        _enter(t, job.id)


def finalize(t: Transition, job: Job) -> None:
    """Let a job that waits for it change the graph."""
    _apply(t, job, "finalize")
    _finalize(t, job.id)


def dismiss(t: Transition, job: Job) -> None:
    """Forget a job that has ended."""
    _apply(t, job, "dismiss")
    _forget(t, job.id)
