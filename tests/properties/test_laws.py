# SPDX-License-Identifier: GPL-2.0-or-later
"""Each law holds for the spec, and fails for a mutant or an outcome that was spoiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, Dialect, Monitor, Outcome, find_dialect
from model.values.state import EMPTY, FrozenDict
from properties import LAWS_OF_DIALECT, Witnesses, law_for, laws, told
from strategies import machine_for, run

if TYPE_CHECKING:
    from model.values.trace import Command

DIALECT = find_dialect("qemu-7.2")

ADD = "blockdev-add"
REOPEN = "blockdev-reopen"


def command(name: str, **arguments: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in arguments.items()}
    return {"execute": name, "arguments": plain}


QCOW2 = {"driver": "qcow2", "node-name": "top", "file": "prot"}
BASE = {"driver": "null-co", "read-zeroes": True}
START = (
    command("object-add", qom_type="throttle-group", id="tg0"),
    command(ADD, driver="file", node_name="prot", filename="hd0.qcow2"),
    command(
        ADD,
        **{**QCOW2, "backing": {**BASE, "node-name": "base"}, "detect-zeroes": "on"},
        lazy_refcounts=True,
    ),
    command(ADD, **{**BASE, "node-name": "spare"}),
    command(
        ADD,
        driver="qcow2",
        node_name="overlay",
        backing=None,
        file={"driver": "file", "filename": "hd1.qcow2"},
    ),
)


def monitor_for(dialect: Dialect = DIALECT) -> Monitor:
    monitor = Monitor(dialect)
    for name in ("hd0.qcow2", "hd1.qcow2"):
        monitor.images.create(name, format="qcow2", size=1 << 20)
    for each in START:
        assert monitor.execute(each) == {"return": {}}
    return monitor


def broken(dialect: Dialect, *commands: Command) -> set[str]:
    """Which laws of the release the commands break in a dialect."""
    monitor = monitor_for(dialect)
    found: set[str] = set()
    check = law_for(dialect)
    for each in commands:
        before = monitor.state
        monitor.execute(each)
        assert monitor.outcome is not None
        found.update(name for name, _ in check(before, each, monitor.outcome))
    return found


def reopen(**changes: Any) -> Command:
    plain = {key.replace("_", "-"): value for key, value in changes.items()}
    return command(REOPEN, options=[{**QCOW2, "backing": "base", **plain}])


MUTANTS: dict[str, tuple[str, tuple[Command, ...]]] = {
    "reopen.detect-zeroes-default": ("omitted_options_are_at_their_defaults", (reopen(),)),
    "reopen.take-options": ("omitted_options_are_at_their_defaults", (reopen(),)),
    "reopen.release-child": ("every_node_is_held", (reopen(backing=None),)),
    "reopen.unset-inherits": (
        "lost_children_no_longer_inherit",
        (command(ADD, driver="raw", node_name="keep", file="base"), reopen(backing=None)),
    ),
    "permissions.conflict": (
        "nobody_requires_what_another_user_unshares",
        (command(ADD, driver="qcow2", node_name="second", file="prot", backing=None),),
    ),
    "permissions.read-only-reopen": (
        "read_only_nodes_have_no_writers",
        (command(REOPEN, options=[
            {"driver": "file", "filename": "hd0.qcow2", "node-name": "prot", "read-only": True}
        ]),),
    ),
    "snapshot.parents-move": (
        "snapshots_put_the_overlay_on_top",
        (
            command(ADD, driver="raw", node_name="guest", file="top"),
            command("blockdev-snapshot", node="top", overlay="overlay"),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", sorted(MUTANTS))
def test_a_mutant_of_the_spec_breaks_a_law(rule: str) -> None:
    expected, commands = MUTANTS[rule]
    assert broken(DIALECT, *commands) == set()
    assert expected in broken(DIALECT.without(rule), *commands)


def outcome_of(each: Command) -> tuple[BlockState, Command, Outcome]:
    monitor = monitor_for()
    before = monitor.state
    monitor.execute(each)
    assert monitor.outcome is not None
    return before, each, monitor.outcome


def without_node(outcome: Outcome, name: str) -> Outcome:
    nodes = {key: node for key, node in outcome.state.nodes.items() if key != name}
    return attrs.evolve(outcome, state=attrs.evolve(outcome.state, nodes=FrozenDict(nodes)))


def with_node(outcome: Outcome, node_name: str, **changes: Any) -> Outcome:
    node = attrs.evolve(outcome.state.nodes[node_name], **changes)
    nodes = FrozenDict({**outcome.state.nodes, node_name: node})
    return attrs.evolve(outcome, state=attrs.evolve(outcome.state, nodes=nodes))


def with_objects(outcome: Outcome, objects: FrozenDict[Any, Any]) -> Outcome:
    return attrs.evolve(outcome, state=attrs.evolve(outcome.state, objects=objects))


Law = Callable[..., str | None]
DEL = command("blockdev-del", node_name="spare")
SPOILED: list[tuple[Law, Command, Callable[[Outcome], Outcome]]] = [
    (
        laws.refused_commands_change_nothing,
        command("blockdev-del", node_name="nobody"),
        lambda o: with_node(o, "top", detect_zeroes="off"),
    ),
    (
        laws.refused_commands_change_nothing,
        command("blockdev-del", node_name="nobody"),
        lambda o: without_node(o, "spare"),
    ),
    (
        laws.queries_change_nothing,
        {"execute": "query-named-block-nodes"},
        lambda o: with_node(o, "top", children=o.state.nodes["top"].children[::-1]),
    ),
    (
        laws.omitted_options_are_at_their_defaults,
        reopen(),
        lambda o: with_node(o, "top", explicit=FrozenDict({"lazy-refcounts": True})),
    ),
    (
        laws.given_options_are_set,
        reopen(read_only=True),
        lambda o: with_node(o, "top", read_only=False),
    ),
    (
        laws.given_options_are_set,
        reopen(detect_zeroes="on"),
        lambda o: with_node(o, "top", detect_zeroes="off"),
    ),
    (
        laws.given_options_are_set,
        reopen(cache={"direct": True}),
        lambda o: with_node(o, "top", no_cache=False),
    ),
    (laws.given_options_are_set, reopen(), lambda o: with_node(o, "top", children=())),
    (
        laws.reopening_keeps_who_owns_what,
        reopen(),
        lambda o: with_node(o, "spare", monitor_owned=False),
    ),
    (laws.reopening_keeps_who_owns_what, reopen(), lambda o: without_node(o, "spare")),
    (
        laws.added_nodes_are_there,
        command(ADD, driver="null-co", node_name="new"),
        lambda o: without_node(o, "new"),
    ),
    (
        laws.added_nodes_are_there,
        command(ADD, driver="null-co", node_name="new"),
        lambda o: with_node(o, "new", driver="null-aio"),
    ),
    (
        laws.added_nodes_are_there,
        command(ADD, driver="null-co", node_name="new"),
        lambda o: with_node(o, "top", options=EMPTY),
    ),
    (laws.deleted_nodes_are_gone, DEL, lambda o: without_node(o, "prot")),
    (
        laws.objects_come_and_go_by_name,
        command("object-add", qom_type="iothread", id="io0"),
        lambda o: with_objects(o, EMPTY),
    ),
    (laws.objects_come_and_go_by_name, DEL, lambda o: with_objects(o, EMPTY)),
    (
        laws.snapshots_put_the_overlay_on_top,
        command("blockdev-snapshot", node="top", overlay="overlay"),
        lambda o: with_node(o, "overlay", children=()),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("law", "each", "spoil"), SPOILED, ids=[f"{n}-{x[0].__name__}" for n, x in enumerate(SPOILED)]
)
def test_a_spoiled_outcome_breaks_the_law(
    law: Law, each: Command, spoil: Callable[[Outcome], Outcome]
) -> None:
    before, _, outcome = outcome_of(each)
    asked = told(DIALECT, law) if law in LAWS_OF_DIALECT else law
    assert asked(before, each, outcome) is None
    assert asked(before, each, spoil(outcome)) is not None


def test_a_deleted_node_that_stays_breaks_the_law() -> None:
    before, _, outcome = outcome_of(DEL)
    stays = attrs.evolve(outcome, state=before)
    assert laws.deleted_nodes_are_gone(before, DEL, stays) is not None


def test_repeating_a_reopen_is_checked() -> None:
    """The repetition runs on the spec; an outcome with another state gives it something to find."""
    each = reopen(detect_zeroes="on")
    idempotent = told(DIALECT, laws.reopening_is_idempotent)
    before, _, outcome = outcome_of(each)
    assert idempotent(before, each, outcome) is None
    other = with_node(outcome, "top", detect_zeroes="off")
    assert "another state" in str(idempotent(before, each, other))
    stuck = with_node(outcome, "top", options=FrozenDict({"no-such-option": 1}))
    assert "refused" in str(idempotent(before, each, stuck))


def test_the_order_of_links_and_generated_names_are_no_change() -> None:
    before = monitor_for().state
    top = before.nodes["top"]
    turned = attrs.evolve(top, children=top.children[::-1])
    other = attrs.evolve(
        before, nodes=FrozenDict({**before.nodes, "top": turned}), serial=before.serial + 1
    )
    assert other != before
    assert laws.same_but_for_order(before, other, DIALECT)
    assert not laws.same_but_for_order(before, attrs.evolve(before, images=EMPTY), DIALECT)


@pytest.mark.slow
def test_laws_hold_and_every_witness_is_seen_in_a_run() -> None:
    witnesses = Witnesses(DIALECT)
    check = law_for(DIALECT)

    def on_step(before: BlockState, each: Command, outcome: Outcome) -> None:
        assert list(check(before, each, outcome)) == []
        witnesses(before, each, outcome)

    run(machine_for(DIALECT, on_step), examples=400, steps=30, seed_number=5)
    assert [witness.name for witness in witnesses.missing()] == []


def test_witnesses_start_unseen() -> None:
    assert all(not count for count in Witnesses(DIALECT).counts.values())
    assert Witnesses(DIALECT).missing()


def test_a_refused_resize_may_see_the_length_of_another_file() -> None:
    """Seen on 7.2: the driver looks at its file before it finds out that it cannot resize it."""
    monitor = Monitor(DIALECT)

    def reopened_over(file: str) -> dict[str, Any]:
        options = {"driver": "preallocate", "node-name": "n0", "file": file}
        return {"execute": "blockdev-reopen", "arguments": {"options": [options]}}

    writer = {"driver": "blkdebug", "image": "n0", "take-child-perms": ["write", "resize"]}
    resize = {"execute": "block_resize", "arguments": {"node-name": "n0", "size": 3}}
    for each in (
        command(ADD, driver="null-co", node_name="n2", size=65536),
        command(ADD, driver="null-co", node_name="n3", size=4096),
        command(ADD, driver="preallocate", node_name="n0", file="n2"),
        {"execute": "blockdev-add", "arguments": {**writer, "node-name": "c"}},
        reopened_over("n3"),
        resize,
        reopened_over("n2"),
    ):
        monitor.execute(each)
    before = monitor.state
    monitor.execute(resize)
    assert monitor.outcome is not None
    assert "error" in monitor.outcome.reply
    assert monitor.state != before
    broken = laws.refused_commands_change_nothing(before, resize, monitor.outcome, DIALECT)
    assert broken is None
