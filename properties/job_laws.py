# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds from one state to the next of jobs, frozen links, exports and threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from model.jobs.lifecycle import COMPLETES_IN_STANDBY

from model.commands.exports import STAYS_AND_TELLS
from properties.claims import chain, standing
from properties.laws import STARTS

if TYPE_CHECKING:
    from model.values.trace import Command

    from model import BlockState, Dialect, Outcome

VERBS: Final = {
    "cancel": frozenset({"created", "running", "paused", "ready", "standby", "waiting", "pending"}),
    "pause": frozenset({"created", "running", "paused", "ready", "standby"}),
    "resume": frozenset({"created", "running", "paused", "ready", "standby"}),
    "set-speed": frozenset({"created", "running", "paused", "ready", "standby"}),
    "complete": frozenset({"ready", "standby"}),
    "finalize": frozenset({"pending"}),
    "dismiss": frozenset({"concluded"}),
}
"""The states in which jobs take each verb."""

NEXT: Final = {
    None: {"created"},
    "created": {"running", "paused", "aborting", "null"},
    "running": {"paused", "ready", "waiting", "aborting"},
    "paused": {"running"},
    "ready": {"standby", "waiting", "aborting"},
    "standby": {"ready"},
    "waiting": {"pending", "aborting"},
    "pending": {"aborting", "concluded"},
    "aborting": {"aborting", "concluded"},
    "concluded": {"null"},
}
"""What a job's status may be followed by."""


def verb_of(command: Command) -> tuple[str, str] | None:
    """The verb of a command about one job, and that job's name."""
    name = str(command.get("execute"))
    for family in ("block-job-", "job-"):
        verb = name.removeprefix(family)
        if verb != name and verb in VERBS:
            arguments = command.get("arguments")
            if isinstance(arguments, dict):
                job = arguments.get("id", arguments.get("device"))
                return (verb, job) if isinstance(job, str) else None
    return None


def jobs_take_the_verbs_of_their_state(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """A verb is accepted only where the table of states and verbs has it.

    Where the table has it, it is not refused for the state.
    """
    asked = verb_of(command)
    if asked is None or asked[1] not in before.jobs:
        return None
    verb, job = asked
    status = before.jobs[job].status
    taken = status in VERBS[verb]
    if verb == "complete" and status == "standby":
        taken = dialect.has(COMPLETES_IN_STANDBY)
    if outcome.ok and not taken:
        return f"a job that is {status} took {verb!r}"
    if "job.verb" in outcome.refused and taken:
        return f"a job that is {status} did not take {verb!r}"
    return None


def statuses_follow_each_other(
    before: BlockState, _command: Command, outcome: Outcome
) -> str | None:
    """Clients hear of every status that a job goes through, in an order that there is."""
    last: dict[str, str | None] = {job.id: job.status for job in before.jobs.values()}
    for event in outcome.events:
        if event["event"] != "JOB_STATUS_CHANGE":
            continue
        job, status = event["data"]["id"], event["data"]["status"]
        known = last.get(job)
        if status not in NEXT.get(known, set()):
            return f"job {job!r} was {known} and is {status}"
        last[job] = None if status == "null" else status
    for job in (*last, *outcome.state.jobs):
        now = outcome.state.jobs.get(job)
        if last.get(job) != (now.status if now else None):
            return f"clients heard that job {job!r} is {last.get(job)}, and it is not"
    return None


def jobs_begin_and_end_by_command(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """Only the commands that start jobs make one, the one they name; a refused one makes none."""
    new = [name for name in outcome.state.jobs if name not in before.jobs]
    if not new:
        return None
    arguments: dict[str, Any] = command.get("arguments", {})
    if not outcome.ok or command.get("execute") not in STARTS:
        return f"job {new[0]!r} appeared"
    return None if new == [arguments.get("job-id")] else f"job {new[0]!r} was not asked for"


def claimed_chains_stay(
    before: BlockState, _command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """While whoever has frozen a chain lives, no link of it leads anywhere else."""
    if before.nodes is outcome.state.nodes:
        return None
    still = {who: (top, end) for who, top, end in standing(outcome.state, dialect)}
    for who, top, end in standing(before, dialect):
        if still.get(who) != (top, end):
            continue
        if chain(before, top, end) != chain(outcome.state, top, end):
            return f"the chain that {who} has frozen is another"
    return None


def exports_come_and_go_by_name(
    before: BlockState, command: Command, outcome: Outcome
) -> str | None:
    """An export is there once it was added, and until it is deleted or the server stops.

    Where an error tells a client only that it is in another thread, it is there all the same.
    """
    known = dict.fromkeys(before.exports)
    name = command.get("execute")
    if name == "block-export-add" and (outcome.ok or STAYS_AND_TELLS.id in outcome.accepted):
        known[command["arguments"]["id"]] = None
    elif outcome.ok and name == "block-export-del":
        known.pop(command["arguments"]["id"], None)
    elif outcome.ok and name == "nbd-server-stop":
        known.clear()
    if list(known) != list(outcome.state.exports):
        return f"there are other exports than {', '.join(known) or 'none'}"
    gone = [name for name in before.exports if name not in outcome.state.exports]
    heard = [e["data"]["id"] for e in outcome.events if e["event"] == "BLOCK_EXPORT_DELETED"]
    return None if gone == heard else "clients did not hear which exports are gone"


def moved_nodes_are_there(before: BlockState, command: Command, outcome: Outcome) -> str | None:
    """A node that was moved to another thread lives there."""
    if not outcome.ok or command.get("execute") != "x-blockdev-set-iothread":
        return None
    name, wanted = command["arguments"]["node-name"], command["arguments"]["iothread"]
    now = outcome.state.nodes[name].context
    return None if now == (wanted or "") else f"{name!r} lives in {now!r}"


JOB_LAWS = (
    statuses_follow_each_other,
    jobs_begin_and_end_by_command,
    exports_come_and_go_by_name,
    moved_nodes_are_there,
)
"""The laws on those who use the graph from outside, the same in every dialect."""

JOB_LAWS_OF_DIALECT = (
    jobs_take_the_verbs_of_their_state,
    claimed_chains_stay,
)
"""Those that ask what is true of a dialect, which they are told."""
