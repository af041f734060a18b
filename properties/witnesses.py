# SPDX-License-Identifier: GPL-2.0-or-later
"""What must happen sometimes: for each law the case in which it says something.

A law that holds because its case never came up holds for nothing. A default run has to
see every witness at least once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.commands.devices import LOOKS
from model.graph.traversal import reaches
from model.jobs.mirror_copy import Mirror
from model.operations.reopen import FILE_TOO, OMISSION_KEEPS
from model.values.trace import OBJECT, REOPENS, WRITE, reopened
from properties.claims import claims, living
from properties.data_laws import backing, pivots
from properties.job_laws import verb_of
from properties.laws import STARTS, accepted, entries, lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import BlockState, Dialect, Outcome
    from model.values.trace import Command

    Sight = Callable[[BlockState, Command, Outcome], bool]


def _everywhere(_dialect: Dialect) -> bool:
    return True


@attrs.frozen
class Witness:
    """``law`` (or invariant) says something in a step where ``seen`` is true.

    ``possible`` says of a dialect whether that can happen.
    """

    name: str
    law: str
    seen: Sight
    possible: Callable[[Dialect], bool] = _everywhere


def _options_changed(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, *REOPENS) and any(
        name in outcome.state.nodes
        and name in before.nodes
        and outcome.state.nodes[name].options != before.nodes[name].options
        for name, _ in entries(command)
    )


def _omitted(before: BlockState, command: Command, outcome: Outcome) -> bool:
    """An option that a client had given was left out."""
    if not accepted(command, outcome, *REOPENS):
        return False
    return any(
        key not in given and value != "off" and key not in ("driver", "node-name")
        for name, given in entries(command)
        if name in before.nodes
        for key, value in before.nodes[name].explicit.items()
    )


def _links_changed(name: str) -> Sight:
    def seen(before: BlockState, command: Command, outcome: Outcome) -> bool:
        if not accepted(command, outcome, *REOPENS):
            return False
        for node, _ in entries(command):
            old, new = before.nodes.get(node), outcome.state.nodes.get(node)
            if old and new:
                was, now = old.link(name), new.link(name)
                if (was and was.child) != (now and now.child):
                    return True
        return False

    return seen


def _accepted(*names: str) -> Sight:
    return lambda _before, command, outcome: accepted(command, outcome, *names)


def _refused_by(*prefixes: str) -> Sight:
    return lambda _before, _command, outcome: any(x.startswith(prefixes) for x in outcome.refused)


def _reordered(before: BlockState, _command: Command, outcome: Outcome) -> bool:
    return not outcome.ok and outcome.state != before


def _has_child(_before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, *REOPENS) and any(
        outcome.state.nodes[name].children
        for name, _ in entries(command)
        if name in outcome.state.nodes
    )


def _disinherited(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, *REOPENS) and any(
        before.nodes[child].inherits_from == parent and child in outcome.state.nodes
        for parent, child in lost(before, outcome)
    )


def _released(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, *REOPENS) and any(
        name not in outcome.state.nodes for name in before.nodes
    )


def _state_has(test: Callable[[BlockState], bool]) -> Sight:
    return lambda before, _command, outcome: outcome.state is not before and test(outcome.state)


def _frozen(state: BlockState) -> bool:
    return any(link.frozen for link in state.links())


def _shared(state: BlockState) -> bool:
    return any(len(node.parents) > 1 for node in state.nodes.values())


def _inherited(state: BlockState) -> bool:
    return any(node.inherits_from for node in state.nodes.values())


def _read_only_child(state: BlockState) -> bool:
    return any(node.read_only and node.parents for node in state.nodes.values())


def _driver(*drivers: str) -> Callable[[BlockState], bool]:
    return lambda state: any(node.driver in drivers for node in state.nodes.values())


def _job_is(*statuses: str) -> Sight:
    return lambda before, _command, _outcome: any(
        job.status in statuses for job in before.jobs.values()
    )


def _mirror_became_ready(before: BlockState, _command: Command, outcome: Outcome) -> bool:
    return any(
        job.type in ("mirror", "commit-active")
        and job.status == "ready"
        and (name not in before.jobs or before.jobs[name].status != "ready")
        for name, job in outcome.state.jobs.items()
    )


def _wrote_through_a_mirror(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, WRITE) and any(
        isinstance(job.body, Mirror)
        and job.body.filter in before.nodes
        and reaches(before.nodes, command["arguments"]["node"], job.body.filter)
        for job in living(before)
    )


def _reopened_beside_a_job(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return accepted(command, outcome, *REOPENS) and any(living(before))


def _took_a_verb(before: BlockState, command: Command, outcome: Outcome) -> bool:
    asked = verb_of(command)
    return outcome.ok and asked is not None and asked[1] in before.jobs


def _ended(kind: str) -> Sight:
    """A job of a kind came to a good end."""

    def seen(_before: BlockState, _command: Command, outcome: Outcome) -> bool:
        return any(
            event["event"] == "BLOCK_JOB_COMPLETED"
            and event["data"]["type"] == kind
            and "error" not in event["data"]
            for event in outcome.events
        )

    return seen


def _pivoted(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return any(pivots(before, command, outcome, job) for job in before.jobs.values())


def _claimed(state: BlockState) -> bool:
    return any(who.startswith("job ") for who, _, _ in claims(state))


def _went_on_beside_a_claim(before: BlockState, _command: Command, outcome: Outcome) -> bool:
    """The graph changed while a job had frozen a part of it."""
    return outcome.state.nodes is not before.nodes and _claimed(before) and _claimed(outcome.state)


def _elsewhere(state: BlockState) -> bool:
    return any(node.context and node.children for node in state.nodes.values())


def _backing_of_data_changed(before: BlockState, command: Command, outcome: Outcome) -> bool:
    if not accepted(command, outcome, *REOPENS):
        return False
    return any(
        name in outcome.state.nodes
        and backing(node) != backing(outcome.state.nodes[name])
        and any(image.extents for image in before.images.values())
        for name, node in before.nodes.items()
    )


def _reopened_over_data(before: BlockState, command: Command, outcome: Outcome) -> bool:
    return (
        accepted(command, outcome, *REOPENS)
        and outcome.state is not before
        and any(image.extents for image in before.images.values())
    )


WITNESSES: tuple[Witness, ...] = (
    Witness("a cycle was refused", "no_node_is_its_own_ancestor", _refused_by("graph.cycle")),
    Witness(
        "conflicting users were refused",
        "nobody_requires_what_another_user_unshares",
        _refused_by("permissions.conflict", "permissions.not-allowed", "permissions.used"),
    ),
    Witness(
        "a node had several users",
        "nobody_requires_what_another_user_unshares",
        _state_has(_shared),
    ),
    Witness(
        "a child was read-only", "read_only_nodes_have_no_writers", _state_has(_read_only_child)
    ),
    Witness("a reopen released a node", "every_node_is_held", _released),
    Witness("a node inherited its options", "options_come_from_others", _state_has(_inherited)),
    Witness(
        "a child that inherited was taken away", "lost_children_no_longer_inherit", _disinherited
    ),
    Witness(
        "a link was frozen", "links_are_frozen_where_somebody_claims_them", _state_has(_frozen)
    ),
    Witness(
        "a job had frozen a chain",
        "links_are_frozen_where_somebody_claims_them",
        _state_has(_claimed),
    ),
    Witness(
        "a node was somebody's secret",
        "implicit_nodes_are_filters_of_living_jobs",
        _state_has(lambda state: any(node.implicit for node in state.nodes.values())),
    ),
    Witness(
        "a job lived",
        "jobs_and_users_agree",
        _state_has(lambda state: any(living(state))),
    ),
    Witness(
        "a block backend used a node",
        "users_and_nodes_agree",
        _state_has(lambda state: any(u.kind == "block-backend" for u in state.users.values())),
    ),
    Witness(
        "there was an export",
        "exports_and_users_agree",
        _state_has(lambda state: bool(state.exports)),
    ),
    *(
        Witness(f"a job was {status}", "jobs_are_at_rest", _job_is(status))
        for status in ("running", "paused", "ready", "standby", "pending", "concluded")
    ),
    Witness(
        "connected nodes lived in a thread",
        "connected_nodes_share_a_context",
        _state_has(_elsewhere),
    ),
    Witness(
        "a mirror became ready", "mirrors_are_equal_when_they_become_ready", _mirror_became_ready
    ),
    Witness(
        "a guest wrote through a mirror",
        "mirrors_copy_or_note_what_is_written",
        _wrote_through_a_mirror,
    ),
    Witness(
        "a command that wrote was refused",
        "refused_commands_keep_what_is_read",
        lambda before, _command, outcome: (
            not outcome.ok and outcome.state.images is not before.images
        ),
        lambda dialect: dialect.has(LOOKS),
    ),
    Witness(
        "a reopen was accepted beside a job",
        "claimed_chains_stay",
        _reopened_beside_a_job,
    ),
    Witness("the graph changed beside a claim", "claimed_chains_stay", _went_on_beside_a_claim),
    Witness("a frozen link was to be changed", "claimed_chains_stay", _refused_by("reopen.frozen")),
    Witness("a verb was accepted", "jobs_take_the_verbs_of_their_state", _took_a_verb),
    Witness("a verb was refused", "jobs_take_the_verbs_of_their_state", _refused_by("job.verb")),
    Witness(
        "a job was heard of",
        "statuses_follow_each_other",
        lambda _before, _command, outcome: bool(outcome.events),
    ),
    Witness("a job was started", "jobs_begin_and_end_by_command", _accepted(*STARTS)),
    *(
        Witness(f"a {kind} ended well", "jobs_keep_what_their_users_see", _ended(kind))
        for kind in ("commit", "stream", "mirror", "backup")
    ),
    Witness("a mirror changed places", "jobs_keep_what_their_users_see", _pivoted),
    Witness("an export was deleted", "exports_come_and_go_by_name", _accepted("block-export-del")),
    Witness("a node was moved", "moved_nodes_are_there", _accepted("x-blockdev-set-iothread")),
    Witness(
        "options changed over data",
        "reopening_options_keeps_what_is_read",
        _reopened_over_data,
    ),
    Witness(
        "a backing file changed over data",
        "another_backing_file_shows_where_nothing_is_allocated",
        _backing_of_data_changed,
    ),
    Witness("there was a quorum", "quorums_can_be_reached", _state_has(_driver("quorum"))),
    Witness("there was a throttle node", "throttle_groups_exist", _state_has(_driver("throttle"))),
    Witness(
        "a refused command left links in another order",
        "refused_commands_change_nothing",
        _reordered,
    ),
    Witness(
        "a refused reopen had to be undone",
        "refused_commands_change_nothing",
        lambda before, command, outcome: (
            command.get("execute") in REOPENS
            and _refused_by("permissions.")(before, command, outcome)
        ),
    ),
    Witness(
        "a query was answered",
        "queries_change_nothing",
        _accepted("query-named-block-nodes", "x-debug-query-block-graph"),
    ),
    Witness(
        "an option that was set was omitted", "omitted_options_are_at_their_defaults", _omitted
    ),
    Witness(
        "an omission was refused",
        "omitted_options_are_at_their_defaults",
        _refused_by("reopen.reset"),
        lambda dialect: not dialect.has(OMISSION_KEEPS),
    ),
    Witness(
        "an option that was omitted was kept",
        "omitted_options_are_kept",
        _omitted,
        lambda dialect: dialect.has(OMISSION_KEEPS),
    ),
    Witness("a reopen changed options", "given_options_are_set", _options_changed),
    Witness(
        "a reopen changed a file",
        "given_options_are_set",
        _links_changed("file"),
        lambda dialect: dialect.has(FILE_TOO),
    ),
    Witness("a reopen changed a backing file", "given_options_are_set", _links_changed("backing")),
    Witness(
        "a reopen of a node with children was accepted",
        "reopening_keeps_who_owns_what",
        _has_child,
    ),
    Witness(
        "several nodes were reopened together",
        "reopening_is_idempotent",
        lambda _before, command, outcome: (
            accepted(command, outcome, *REOPENS) and len(reopened(command)) > 1
        ),
        lambda dialect: dialect.schema.knows("blockdev-reopen"),
    ),
    Witness("a node was added", "added_nodes_are_there", _accepted("blockdev-add")),
    Witness("a node was deleted", "deleted_nodes_are_gone", _accepted("blockdev-del")),
    Witness("an object was made", "objects_come_and_go_by_name", _accepted("object-add", OBJECT)),
    Witness("an object was deleted", "objects_come_and_go_by_name", _accepted("object-del")),
    Witness(
        "a snapshot was taken", "snapshots_put_the_overlay_on_top", _accepted("blockdev-snapshot")
    ),
)


class Witnesses:
    """Counts what was seen of what can be seen in a dialect; call it with every step."""

    def __init__(self, dialect: Dialect) -> None:
        self._possible = tuple(each for each in WITNESSES if each.possible(dialect))
        self.counts: dict[str, int] = {witness.name: 0 for witness in self._possible}

    def __call__(self, before: BlockState, command: Command, outcome: Outcome) -> None:
        """Look at one step."""
        for witness in self._possible:
            if witness.seen(before, command, outcome):
                self.counts[witness.name] += 1

    def missing(self) -> tuple[Witness, ...]:
        """The witnesses that have not been seen."""
        return tuple(witness for witness in self._possible if not self.counts[witness.name])
