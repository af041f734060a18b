# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dialect does by a rule of its own breaks a law in every other, and spoiled in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, Dialect, Monitor, Outcome, find_dialect
from model.release.dialects import DIALECTS, PROPOSALS
from model.values.state import EMPTY, FrozenDict
from properties import DATA_LAWS, JOB_LAWS_OF_DIALECT, LAWS_OF_DIALECT, law_for, told
from properties import invariants as inv
from properties.data_laws import jobs_keep_what_their_users_see
from properties.job_laws import (
    claimed_chains_stay,
    exports_come_and_go_by_name,
    jobs_take_the_verbs_of_their_state,
)
from properties.laws import (
    objects_come_and_go_by_name,
    omitted_options_are_at_their_defaults,
    omitted_options_are_kept,
    refused_commands_change_nothing,
    reopening_is_idempotent,
    same_but_for_order,
)
from properties.users import jobs_are_at_rest
from strategies import machine_for, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.values.trace import Command

    Law = Callable[..., str | None]
    Spoil = Callable[[Outcome], Outcome]

MIB = 1 << 20


def command(name: str, /, **arguments: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": plain}


def image(name: str, **more: Any) -> dict[str, Any]:
    """Options of a qcow2 node over the image file of that name."""
    plain = {key.replace("_", "-"): value for key, value in more.items()}
    return {"driver": "qcow2", "node-name": name, "file": f"{name}-file", **plain}


def opened(name: str, **more: Any) -> tuple[Command, Command]:
    """The commands that open an image and its file."""
    file = command(
        "blockdev-add", driver="file", filename=f"{name}.qcow2", node_name=f"{name}-file"
    )
    return file, command("blockdev-add", **image(name, **{"backing": None, **more}))


CHAIN = (*opened("base"), *opened("top", backing="base"))
PAIR = (*opened("top"), *opened("base"))
SERVER = command("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
SPACE = {"driver": "preallocate", "node-name": "space", "file": "base-file"}
PREALLOCATED = (
    opened("base")[0],
    command("blockdev-add", **SPACE),
    command("blockdev-add", driver="qcow2", node_name="top", file="space", backing=None),
    command("blockdev-reopen", options=[{**SPACE, "read-only": True}]),
)
STUCK = (
    command("blockdev-add", **{**SPACE, "file": {
        "driver": "file", "filename": "base.qcow2", "read-only": True
    }}),
    command("block_resize", node_name="space", size=2 * MIB),
)  # fmt: skip
STREAMED = (*CHAIN, command("block-stream", job_id="j", device="top", auto_dismiss=False))
MIRROR = {"job-id": "j", "device": "top", "target": "base"}
MIRRORED = (
    *PAIR,
    command("blockdev-mirror", **MIRROR, sync="full", auto_dismiss=False),
    command("job-cancel", id="j"),
)
LATE = (
    opened("top")[0],
    command("blockdev-add", driver="qcow2", node_name="top", file="top-file", backing=None),
    command("blockdev-add", driver="null-co", node_name="base", size=MIB, read_zeroes=True),
    command("blockdev-mirror", **MIRROR, sync="none"),
    command("x-blockdev-reopen", **image("top", backing="base")),
)
STANDBY = (
    *PAIR,
    command("blockdev-mirror", **MIRROR, sync="none"),
    command("job-pause", id="j"),
    command("job-complete", id="j"),
)
PAUSED = (
    *PAIR,
    command("blockdev-backup", **MIRROR, sync="none"),
    command("job-pause", id="j"),
)
BEHIND = (
    *CHAIN,
    command("block-commit", job_id="j", device="top", auto_finalize=False),
    command("job-complete", id="j"),
    command("reopencheck-write", node="top", offset=0, length=512, pattern=35),
    command("job-finalize", id="j"),
)
EXPORT = {"type": "nbd", "node-name": "top"}
TOLD = (
    command("reopencheck-object", qom_type="iothread", id="io"),
    SERVER,
    *opened("top"),
    command("block-export-add", **EXPORT, id="e0", name="e0", fixed_iothread=True),
    command("block-export-add", **EXPORT, id="e1", iothread="io"),
)
KEPT = (
    *opened("top", detect_zeroes="on", lazy_refcounts=True),
    command("x-blockdev-reopen", **image("top", backing=None)),
)
DEVICE = (command("blockdev-add", driver="file", filename="/dev/null", node_name="null"),)
LIMITS = (
    opened("top")[0],
    command("blockdev-add", driver="raw", node_name="raw", file="top-file"),
    command("blockdev-add", driver="raw", node_name="over", file="raw"),
    command("blockdev-reopen", options=[
        {"driver": "file", "filename": "top.qcow2", "node-name": "top-file",
         "cache": {"direct": True}},
        {"driver": "raw", "node-name": "over", "file": "raw"},
    ]),
)  # fmt: skip


def outcome_of(dialect: Dialect, commands: tuple[Command, ...]) -> tuple[BlockState, Outcome]:
    """What was before the last of the commands, and what came of it. No law is broken."""
    monitor = Monitor(dialect)
    for name in ("top", "base"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=MIB)
    before = monitor.state
    for each in commands:
        before = monitor.state
        monitor.execute(each)
        assert monitor.outcome is not None
        assert not monitor.outcome.hazards
        assert list(law_for(dialect)(before, each, monitor.outcome)) == []
    assert monitor.outcome is not None
    return before, monitor.outcome


def ask(
    law: Law, dialect: Dialect, before: BlockState, each: Command, outcome: Outcome
) -> str | None:
    """What an invariant or a law says, in a dialect if it asks for one."""
    if law in inv.INVARIANTS_OF_DIALECT:
        return told(dialect, law)(outcome.state)
    needs_dialect = law in (*LAWS_OF_DIALECT, *JOB_LAWS_OF_DIALECT, *DATA_LAWS)
    return (told(dialect, law) if needs_dialect else law)(before, each, outcome)


OWN: list[tuple[Law, str, str, tuple[Command, ...]]] = [
    (refused_commands_change_nothing, "qemu-10.0", "preallocate.read-only-early", PREALLOCATED),
    (refused_commands_change_nothing, "qemu-10.0", "preallocate.stuck", STUCK),
    (refused_commands_change_nothing, "qemu-5.2", "export.stays-and-tells", TOLD),
    (exports_come_and_go_by_name, "qemu-5.2", "export.stays-and-tells", TOLD),
    (
        inv.implicit_nodes_are_filters_of_living_jobs,
        "qemu-10.0",
        "stream.filter-stays",
        STREAMED,
    ),
    (inv.implicit_nodes_are_filters_of_living_jobs, "qemu-5.2", "job.own-backend", MIRRORED),
    (inv.links_are_frozen_where_somebody_claims_them, "qemu-5.2", "hazard.not-frozen", LATE),
    (inv.open_files_exist, "qemu-5.2", "file.takes-devices", DEVICE),
    (omitted_options_are_at_their_defaults, "omission-keeps", "proposal.omission-keeps", KEPT),
]


@pytest.mark.parametrize(
    ("law", "name", "rule", "commands"), OWN, ids=[f"{x[0].__name__}-{x[2]}" for x in OWN]
)
def test_what_a_rule_allows_is_wrong_without_it(
    law: Law, name: str, rule: str, commands: tuple[Command, ...]
) -> None:
    dialect = find_dialect(name)
    before, outcome = outcome_of(dialect, commands)
    each = commands[-1]
    assert ask(law, dialect, before, each, outcome) is None
    lacking = attrs.evolve(outcome, accepted=outcome.accepted - {rule})
    assert ask(law, dialect.without(rule), before, each, lacking) is not None


LATER: list[tuple[Law, str, tuple[Command, ...]]] = [
    (jobs_take_the_verbs_of_their_state, "job.completes-in-standby", STANDBY),
    (jobs_are_at_rest, "job.pause-wakes", PAUSED),
]


@pytest.mark.parametrize(("law", "rule", "commands"), LATER, ids=[x[1] for x in LATER])
def test_what_5_2_does_is_wrong_with_a_later_rule(
    law: Law, rule: str, commands: tuple[Command, ...]
) -> None:
    dialect = find_dialect("qemu-5.2")
    before, outcome = outcome_of(dialect, commands)
    later = attrs.evolve(dialect, absent=dialect.absent - {rule})
    assert ask(law, dialect, before, commands[-1], outcome) is None
    assert ask(law, later, before, commands[-1], outcome) is not None


def test_limits_are_no_change_where_they_are_worked_out_again() -> None:
    dialect = find_dialect("qemu-11.1")
    before, outcome = outcome_of(dialect, LIMITS)
    each = LIMITS[-1]
    assert "query.limits" in outcome.accepted
    assert ask(reopening_is_idempotent, dialect, before, each, outcome) is None
    limits = outcome.state.nodes["over"].limits._replace(transfer=512)
    other = with_node(outcome, "over", limits=limits).state
    assert same_but_for_order(outcome.state, other, dialect)
    assert not same_but_for_order(outcome.state, other, dialect.without("query.limits"))


def with_state(outcome: Outcome, **changes: Any) -> Outcome:
    return attrs.evolve(outcome, state=attrs.evolve(outcome.state, **changes))


def with_node(outcome: Outcome, name: str, **changes: Any) -> Outcome:
    changed = attrs.evolve(outcome.state.nodes[name], **changes)
    return with_state(outcome, nodes=FrozenDict({**outcome.state.nodes, name: changed}))


def thawed(outcome: Outcome, name: str) -> Outcome:
    links = outcome.state.nodes[name].children
    return with_node(outcome, name, children=tuple(attrs.evolve(link, frozen=0) for link in links))


def without_job(outcome: Outcome) -> Outcome:
    return with_state(outcome, jobs=EMPTY)


def with_export_gone(outcome: Outcome) -> Outcome:
    exports = {key: value for key, value in outcome.state.exports.items() if key != "e1"}
    return with_state(outcome, exports=FrozenDict(exports))


def with_bytes(outcome: Outcome, name: str, pattern: int) -> Outcome:
    file = attrs.evolve(outcome.state.images[f"{name}.qcow2"], extents=((0, 65536, pattern),))
    return with_state(outcome, images=FrozenDict({**outcome.state.images, file.name: file}))


def fast(*commands: Command) -> tuple[Command, ...]:
    """The commands, the last but one of which, where a guest writes, left out."""
    return (*commands[:-2], commands[-1])


SLOW_STREAM = (
    *CHAIN,
    command("block-stream", job_id="j", device="top", auto_finalize=False),
)
SPOILED: list[tuple[Law, str, tuple[Command, ...], Spoil]] = [
    (
        refused_commands_change_nothing,
        "qemu-10.0",
        PREALLOCATED,
        lambda o: with_node(o, "top", detect_zeroes="on"),
    ),
    (
        refused_commands_change_nothing,
        "qemu-5.2",
        TOLD,
        lambda o: with_state(o, objects=EMPTY),
    ),
    (exports_come_and_go_by_name, "qemu-5.2", TOLD, with_export_gone),
    (inv.implicit_nodes_are_filters_of_living_jobs, "qemu-10.0", STREAMED, without_job),
    (inv.implicit_nodes_are_filters_of_living_jobs, "qemu-5.2", MIRRORED, without_job),
    (
        inv.links_are_frozen_where_somebody_claims_them,
        "qemu-5.2",
        SLOW_STREAM,
        lambda o: thawed(o, "top"),
    ),
    (
        inv.open_files_exist,
        "qemu-5.2",
        DEVICE,
        lambda o: with_node(o, "null", filename="/dev/gone"),
    ),
    (
        jobs_keep_what_their_users_see,
        "qemu-10.0",
        fast(*BEHIND),
        lambda o: with_bytes(o, "base", 9),
    ),
    (
        jobs_take_the_verbs_of_their_state,
        "qemu-5.2",
        STANDBY,
        lambda o: attrs.evolve(o, reply={"return": {}}, refused=frozenset()),
    ),
    (
        jobs_are_at_rest,
        "qemu-5.2",
        STANDBY,
        lambda o: with_state(
            o, jobs=FrozenDict({"j": attrs.evolve(o.state.jobs["j"], paused=False)})
        ),
    ),
    (
        omitted_options_are_kept,
        "omission-keeps",
        KEPT,
        lambda o: with_node(o, "top", explicit=EMPTY),
    ),
    (
        omitted_options_are_kept,
        "omission-keeps",
        KEPT,
        lambda o: with_node(o, "top", detect_zeroes="off"),
    ),
    (
        objects_come_and_go_by_name,
        "qemu-5.2",
        TOLD[:1],
        lambda o: with_state(o, objects=EMPTY),
    ),
]


@pytest.mark.parametrize(
    ("law", "name", "commands", "spoil"),
    SPOILED,
    ids=[f"{n}-{x[0].__name__}" for n, x in enumerate(SPOILED)],
)
def test_a_spoiled_outcome_breaks_the_law_in_that_dialect(
    law: Law, name: str, commands: tuple[Command, ...], spoil: Spoil
) -> None:
    dialect = find_dialect(name)
    before, outcome = outcome_of(dialect, commands)
    assert ask(law, dialect, before, commands[-1], outcome) is None
    assert ask(law, dialect, before, commands[-1], spoil(outcome)) is not None


def test_a_chain_that_a_bare_stream_has_frozen_stays() -> None:
    dialect = find_dialect("qemu-5.2")
    commands = (*SLOW_STREAM[:4], *opened("other"), *SLOW_STREAM[4:])
    monitor = Monitor(dialect)
    for name in ("top", "base", "other"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=MIB)
    for each in commands:
        assert monitor.execute(each) == {"return": {}}
    before = monitor.state
    query = command("query-jobs")
    monitor.execute(query)
    outcome = monitor.outcome
    assert outcome is not None
    links = before.nodes["top"].children
    other = tuple(
        attrs.evolve(link, child="other") if link.name == "backing" else link for link in links
    )
    moved = with_node(outcome, "top", children=other)
    assert ask(claimed_chains_stay, dialect, before, query, outcome) is None
    assert ask(claimed_chains_stay, dialect, before, query, moved) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DIALECTS, *PROPOSALS])
def test_laws_hold_in_every_dialect(name: str) -> None:
    dialect = find_dialect(name)
    check = law_for(dialect)

    def on_step(before: BlockState, each: Command, outcome: Outcome) -> None:
        assert list(check(before, each, outcome)) == []

    run(machine_for(dialect, on_step), examples=30, steps=30, seed_number=8)
