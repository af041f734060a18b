# SPDX-License-Identifier: GPL-2.0-or-later
"""The laws on jobs, exports and data hold for the spec, and fail for spoiled outcomes."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, Monitor, Outcome, find_dialect
from model.values.state import FrozenDict, Link, Role
from properties import law_for, told
from properties.data_laws import (
    DATA_LAWS,
    Reader,
    another_backing_file_shows_where_nothing_is_allocated,
    jobs_keep_what_their_users_see,
    mirrors_are_equal_when_they_become_ready,
    mirrors_copy_or_note_what_is_written,
    refused_commands_keep_what_is_read,
    reopening_options_keeps_what_is_read,
)
from properties.job_laws import (
    JOB_LAWS,
    JOB_LAWS_OF_DIALECT,
    NEXT,
    VERBS,
    claimed_chains_stay,
    exports_come_and_go_by_name,
    jobs_begin_and_end_by_command,
    jobs_take_the_verbs_of_their_state,
    moved_nodes_are_there,
    statuses_follow_each_other,
)

if TYPE_CHECKING:
    from model.values.trace import Command

DIALECT = find_dialect("qemu-7.2")
CLUSTER = 65536


def command(name: str, **arguments: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": plain}


def node(name: str, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": f"{name}.qcow2", "node-name": f"{name}-file"}
    return {"driver": "qcow2", "node-name": name, "file": file, "backing": None, **more}


def again(name: str, **more: Any) -> Command:
    """A reopen of a node with its file as it is."""
    options = {"driver": "qcow2", "node-name": name, "file": f"{name}-file", "backing": None}
    given = {key.replace("_", "-"): value for key, value in more.items()}
    return command("blockdev-reopen", options=[{**options, **given}])


COMMIT = {"job_id": "c", "device": "over", "top_node": "mid", "base_node": "base"}
MIRROR = {"job_id": "m", "device": "src", "target": "dst", "sync": "full"}


@lru_cache
def start() -> BlockState:
    """Three images on each other, each with a cluster of its own, and three others beside."""
    monitor = Monitor(DIALECT)
    for number, name in enumerate(("base", "mid", "over", "src", "dst", "spare")):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=1 << 20)
        if name != "dst":
            monitor.images.write(f"{name}.qcow2", number * CLUSTER, CLUSTER, number + 1)
    for each in (
        command("blockdev-add", **node("over", backing=node("mid", backing=node("base")))),
        *(command("blockdev-add", **node(name)) for name in ("src", "dst", "spare")),
        command("object-add", qom_type="iothread", id="io0"),
        command("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}}),
    ):
        assert monitor.execute(each) == {"return": {}}
    return monitor.state


def outcome_of(*commands: Command) -> tuple[BlockState, Command, Outcome]:
    """The last of the commands: what was before, and what came of it. No law is broken."""
    monitor = Monitor(DIALECT)
    monitor.state = start()
    law = law_for(DIALECT)
    before = monitor.state
    for each in commands:
        before = monitor.state
        monitor.execute(each)
        assert monitor.outcome is not None
        assert list(law(before, each, monitor.outcome)) == []
    assert monitor.outcome is not None
    return before, commands[-1], monitor.outcome


def with_state(outcome: Outcome, **changes: Any) -> Outcome:
    return attrs.evolve(outcome, state=attrs.evolve(outcome.state, **changes))


def with_node(outcome: Outcome, name: str, **changes: Any) -> Outcome:
    changed = attrs.evolve(outcome.state.nodes[name], **changes)
    return with_state(outcome, nodes=FrozenDict({**outcome.state.nodes, name: changed}))


def with_image(outcome: Outcome, name: str, *extents: tuple[int, int, int]) -> Outcome:
    image = attrs.evolve(outcome.state.images[f"{name}.qcow2"], extents=extents)
    return with_state(outcome, images=FrozenDict({**outcome.state.images, image.name: image}))


def without_events(outcome: Outcome) -> Outcome:
    return attrs.evolve(outcome, events=())


def with_job(outcome: Outcome, name: str, **changes: Any) -> Outcome:
    job = attrs.evolve(outcome.state.jobs[name], **changes)
    return with_state(outcome, jobs=FrozenDict({**outcome.state.jobs, name: job}))


def elsewhere(outcome: Outcome) -> Outcome:
    """The link that the commit has frozen leads to another node."""
    link = Link("mid", "backing", "spare", Role.COW, frozen=1)
    file = outcome.state.nodes["mid"].link("file")
    assert file is not None
    return with_node(outcome, "mid", children=(link, file))


HELD = command("block-commit", **COMMIT, auto_finalize=False)
PENDING = (HELD, command("job-finalize", id="c"))
READY = command("blockdev-mirror", **MIRROR)
EXPORT = command("block-export-add", type="nbd", id="e0", node_name="spare")
MOVE = command("x-blockdev-set-iothread", node_name="spare", iothread="io0")
OTHER = again("over", backing="spare")

Law = Callable[..., str | None]
TOLD = (*JOB_LAWS_OF_DIALECT, *DATA_LAWS)
SPOILED: list[tuple[Law, tuple[Command, ...], Callable[[Outcome], Outcome]]] = [
    (
        jobs_take_the_verbs_of_their_state,
        (READY, command("job-finalize", id="m")),
        lambda o: attrs.evolve(o, reply={"return": {}}, refused=frozenset()),
    ),
    (
        jobs_take_the_verbs_of_their_state,
        (READY, command("block-job-pause", device="m")),
        lambda o: attrs.evolve(o, reply={"error": {}}, refused=frozenset({"job.verb"})),
    ),
    (statuses_follow_each_other, (READY,), without_events),
    (statuses_follow_each_other, (READY,), lambda o: attrs.evolve(o, events=o.events[1:])),
    (
        statuses_follow_each_other,
        (READY, command("job-pause", id="m")),
        lambda o: with_job(o, "m", status="paused"),
    ),
    (
        jobs_begin_and_end_by_command,
        (READY,),
        lambda o: attrs.evolve(o, reply={"error": {"class": "GenericError", "desc": "no"}}),
    ),
    (
        jobs_begin_and_end_by_command,
        (READY,),
        lambda o: with_state(o, jobs=FrozenDict({"x": o.state.jobs["m"]})),
    ),
    (claimed_chains_stay, (HELD, again("spare", lazy_refcounts=True)), elsewhere),
    (exports_come_and_go_by_name, (EXPORT,), lambda o: with_state(o, exports=FrozenDict({}))),
    (
        exports_come_and_go_by_name,
        (EXPORT, command("block-export-del", id="e0")),
        without_events,
    ),
    (exports_come_and_go_by_name, (EXPORT, command("nbd-server-stop")), without_events),
    (moved_nodes_are_there, (MOVE,), lambda o: with_node(o, "spare", context="")),
    (
        reopening_options_keeps_what_is_read,
        (again("src", lazy_refcounts=True),),
        lambda o: with_image(o, "src", (0, CLUSTER, 9)),
    ),
    (
        another_backing_file_shows_where_nothing_is_allocated,
        (OTHER,),
        lambda o: with_image(o, "over", (0, CLUSTER, 9)),
    ),
    (
        another_backing_file_shows_where_nothing_is_allocated,
        (OTHER,),
        lambda o: with_image(o, "over"),
    ),
    (
        jobs_keep_what_their_users_see,
        PENDING,
        lambda o: with_image(o, "base", (0, 2 * CLUSTER, 9)),
    ),
    (
        jobs_keep_what_their_users_see,
        (command("block-stream", job_id="s", device="over"),),
        lambda o: with_image(o, "over"),
    ),
    (
        jobs_keep_what_their_users_see,
        (READY, command("job-complete", id="m")),
        lambda o: with_image(o, "dst"),
    ),
    (
        jobs_keep_what_their_users_see,
        (
            command("block-commit", job_id="c", device="over", base_node="base"),
            command("job-complete", id="c"),
        ),
        lambda o: with_image(o, "base", (0, CLUSTER, 1)),
    ),
    (
        mirrors_are_equal_when_they_become_ready,
        (READY,),
        lambda o: with_image(o, "dst", (0, CLUSTER, 8)),
    ),
    (
        mirrors_copy_or_note_what_is_written,
        (
            command("blockdev-mirror", **MIRROR, filter_node_name="f"),
            command("reopencheck-write", node="f", offset=0, length=512, pattern=9),
        ),
        lambda o: with_image(o, "dst"),
    ),
    (
        refused_commands_keep_what_is_read,
        (command("blockdev-del", node_name="nobody"),),
        lambda o: with_image(o, "src"),
    ),
]


@pytest.mark.parametrize(
    ("law", "commands", "spoil"),
    SPOILED,
    ids=[f"{n}-{x[0].__name__}" for n, x in enumerate(SPOILED)],
)
def test_a_spoiled_outcome_breaks_the_law(
    law: Law, commands: tuple[Command, ...], spoil: Callable[[Outcome], Outcome]
) -> None:
    before, each, outcome = outcome_of(*commands)
    asked = told(DIALECT, law) if law in TOLD else law
    assert asked(before, each, outcome) is None
    assert asked(before, each, spoil(outcome)) is not None


def test_every_law_was_shown_to_fail() -> None:
    assert {law for law, _, _ in SPOILED} == {*JOB_LAWS, *TOLD}


def test_the_tables_speak_of_the_same_states() -> None:
    known = {status for status in NEXT if status is not None} | {"null"}
    assert set().union(*VERBS.values()) <= known
    assert set().union(*NEXT.values()) <= known


def test_a_guest_reads_what_was_mirrored() -> None:
    """The laws on data look at something: the target has the bytes of the source."""
    _, _, outcome = outcome_of(READY, command("job-complete", id="m"))
    monitor = Monitor(DIALECT)
    monitor.state = outcome.state
    assert monitor.read("dst", 3 * CLUSTER, 4) == b"\4\4\4\4"


def test_reading_one_node_copies_nothing_for_another() -> None:
    """Through the filter of a stream, what is read of the base is copied into the image above."""
    stream = {"job_id": "s", "device": "mid", "base_node": "base", "auto_finalize": False}
    _, _, outcome = outcome_of(command("block-stream", **stream))
    reader = Reader(outcome.state, DIALECT)
    before = reader.image("mid")
    assert reader.runs("over")
    assert reader.image("mid") == before
