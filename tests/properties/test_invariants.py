# SPDX-License-Identifier: GPL-2.0-or-later
"""Each invariant holds for a right state and fails for one that was spoiled on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, Monitor, find_dialect
from model.state import EMPTY, FrozenDict, Link, Node
from properties import INVARIANTS, WITNESSES, law
from properties import invariants as inv
from properties.laws import LAWS

if TYPE_CHECKING:
    from collections.abc import Callable

DIALECT = find_dialect("qemu-7.2")
options_are_known = inv.options_are_in(DIALECT.schema)


def right() -> BlockState:
    """A qcow2 over a file, a copy-on-read with a bottom, a quorum, a throttle node."""
    monitor = Monitor(DIALECT)
    monitor.images.create("hd0.qcow2", format="qcow2", size=1 << 20)
    for name, arguments in (
        ("object-add", {"qom-type": "throttle-group", "id": "tg0"}),
        (
            "blockdev-add",
            {
                "driver": "qcow2",
                "node-name": "top",
                "file": {"driver": "file", "filename": "hd0.qcow2", "node-name": "prot"},
            },
        ),
        ("blockdev-add", {"driver": "null-co", "node-name": "null", "read-zeroes": True}),
        (
            "blockdev-add",
            {"driver": "copy-on-read", "node-name": "cor", "file": "null", "bottom": "null"},
        ),
        (
            "blockdev-add",
            {
                "driver": "quorum",
                "node-name": "quorum",
                "vote-threshold": 1,
                "children": [{"driver": "null-co", "node-name": "child"}],
            },
        ),
        (
            "blockdev-add",
            {"driver": "throttle", "node-name": "thr", "throttle-group": "tg0", "file": "quorum"},
        ),
    ):
        reply = monitor.execute({"execute": name, "arguments": arguments})
        assert reply == {"return": {}}
    return monitor.state


def with_node(state: BlockState, filed: str, /, **changes: Any) -> BlockState:
    node = attrs.evolve(state.nodes[filed], **changes)
    return attrs.evolve(state, nodes=FrozenDict({**state.nodes, filed: node}))


def linked(state: BlockState, parent: str, name: str, child: str, **extra: Any) -> BlockState:
    """The state with one more link, in both lists."""
    link = Link(parent, name, child, extra.pop("role", 1), **extra)
    state = with_node(state, parent, children=(link, *state.nodes[parent].children))
    return with_node(state, child, parents=(link.key, *state.nodes[child].parents))


def _cycle(state: BlockState) -> BlockState:
    return linked(state, "prot", "file", "top")


def _self(state: BlockState) -> BlockState:
    return linked(state, "null", "file", "null")


def _two_writers(state: BlockState) -> BlockState:
    second = attrs.evolve(
        state.nodes["top"], name="second", children=(), parents=(), monitor_owned=True
    )
    state = attrs.evolve(state, nodes=FrozenDict({**state.nodes, "second": second}))
    return linked(state, "second", "file", "prot", role=int(state.nodes["top"].children[0].role))


def _options(state: BlockState, name: str, **options: Any) -> BlockState:
    given = {key.replace("_", "-"): value for key, value in options.items()}
    return with_node(state, name, options=FrozenDict({**state.nodes[name].options, **given}))


BAD: list[tuple[Callable[[BlockState], str | None], Callable[[BlockState], BlockState]]] = [
    (inv.nodes_go_by_their_own_names, lambda s: with_node(s, "null", name="other")),
    (
        inv.nodes_go_by_their_own_names,
        lambda s: with_node(s, "thr", children=s.nodes["top"].children),
    ),
    (inv.parents_and_children_agree, lambda s: with_node(s, "prot", parents=())),
    (inv.parents_and_children_agree, lambda s: with_node(s, "top", children=())),
    (
        inv.parents_and_children_agree,
        lambda s: with_node(s, "top", children=s.nodes["top"].children * 2),
    ),
    (
        inv.parents_and_children_agree,
        lambda s: with_node(s, "prot", parents=s.nodes["prot"].parents * 2),
    ),
    (
        inv.parents_and_children_agree,
        lambda s: with_node(s, "top", children=(Link("top", "file", "nobody", 1),)),
    ),
    (inv.no_node_is_its_own_ancestor, _cycle),
    (inv.no_node_is_its_own_ancestor, _self),
    (inv.nobody_requires_what_another_user_unshares, _two_writers),
    (inv.read_only_nodes_have_no_writers, lambda s: with_node(s, "prot", read_only=True)),
    (inv.every_node_is_held, lambda s: with_node(s, "thr", monitor_owned=False)),
    (inv.options_do_not_come_from_below, lambda s: with_node(s, "top", inherits_from="prot")),
    (inv.options_do_not_come_from_below, lambda s: with_node(s, "prot", inherits_from="prot")),
    (
        inv.frozen_links_lead_to_a_bottom,
        lambda s: with_node(
            s, "top", children=(attrs.evolve(s.nodes["top"].children[0], frozen=True),)
        ),
    ),
    (
        inv.frozen_links_lead_to_a_bottom,
        lambda s: with_node(
            s, "cor", children=(attrs.evolve(s.nodes["cor"].children[0], frozen=False),)
        ),
    ),
    (
        inv.children_are_those_of_the_driver,
        lambda s: with_node(with_node(s, "top", children=()), "prot", parents=()),
    ),
    (inv.children_are_those_of_the_driver, lambda s: linked(s, "thr", "backing", "null")),
    (inv.children_are_those_of_the_driver, lambda s: linked(s, "quorum", "file", "null")),
    (inv.quorums_can_be_reached, lambda s: _options(s, "quorum", vote_threshold=2)),
    (
        inv.zeroes_are_unmapped_where_discards_are,
        lambda s: with_node(s, "null", detect_zeroes="unmap", unmap=False),
    ),
    (inv.open_files_exist, lambda s: attrs.evolve(s, images=EMPTY)),
    (inv.throttle_groups_exist, lambda s: attrs.evolve(s, objects=EMPTY)),
    (options_are_known, lambda s: _options(s, "null", filename="hd0.qcow2")),
]


@pytest.mark.parametrize("invariant", [*INVARIANTS, options_are_known])
def test_a_right_state_satisfies(invariant: Callable[[BlockState], str | None]) -> None:
    assert invariant(right()) is None
    assert invariant(BlockState()) is None


@pytest.mark.parametrize(
    ("invariant", "spoil"), BAD, ids=[f"{number}-{x.__name__}" for number, (x, _) in enumerate(BAD)]
)
def test_a_spoiled_state_does_not_satisfy(
    invariant: Callable[[BlockState], str | None], spoil: Callable[[BlockState], BlockState]
) -> None:
    wrong = invariant(spoil(right()))
    assert wrong is not None
    assert "\n" not in wrong


def test_every_invariant_was_shown_to_fail() -> None:
    assert {x for x, _ in BAD} == {*INVARIANTS, options_are_known}


def test_the_law_speaks_of_broken_invariants() -> None:
    monitor = Monitor(DIALECT)
    monitor.state = right()
    command = {"execute": "blockdev-del", "arguments": {"node-name": "thr"}}
    monitor.execute(command)
    outcome = monitor.outcome
    assert outcome is not None
    assert list(law(right(), command, outcome)) == []
    bad = attrs.evolve(outcome, state=_cycle(outcome.state))
    assert [name for name, _ in law(right(), command, bad)] == ["no_node_is_its_own_ancestor"]
    daring = attrs.evolve(bad, hazards=frozenset({"hazard.any"}))
    assert list(law(right(), command, daring)) == []


def test_witnesses_speak_of_laws_that_exist() -> None:
    names = {x.__name__ for x in (*INVARIANTS, *LAWS)} | {"reopening_is_idempotent"}
    assert {witness.law for witness in WITNESSES} <= names
    assert len({witness.name for witness in WITNESSES}) == len(WITNESSES)
    assert {x.__name__ for x in LAWS} <= {witness.law for witness in WITNESSES}


def test_a_lonely_node_is_right() -> None:
    lonely = Node("n0", "null-co", monitor_owned=True)
    state = BlockState(nodes=FrozenDict({"n0": lonely}))
    assert all(invariant(state) is None for invariant in INVARIANTS)
