# SPDX-License-Identifier: GPL-2.0-or-later
"""Each invariant holds for a right state and fails for one that was spoiled on purpose."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from model import BlockState, Monitor, find_dialect
from model.values.state import EMPTY, FrozenDict, Link, Node
from properties import INVARIANTS, INVARIANTS_OF_DIALECT, WITNESSES, law, told, users
from properties import invariants as inv
from properties.data_laws import DATA_LAWS
from properties.job_laws import JOB_LAWS, JOB_LAWS_OF_DIALECT
from properties.laws import LAWS, LAWS_OF_DIALECT

if TYPE_CHECKING:
    from collections.abc import Callable

DIALECT = find_dialect("qemu-7.2")
EVERY_INVARIANT: tuple[Callable[..., str | None], ...] = (*INVARIANTS, *INVARIANTS_OF_DIALECT)


def image(name: str, **more: Any) -> dict[str, Any]:
    """Options of a qcow2 node over the image file of that name."""
    file = {"driver": "file", "filename": f"{name}.qcow2"}
    return {"driver": "qcow2", "node-name": name, "file": file, "backing": None, **more}


def at_work(monitor: Monitor) -> None:
    """A commit that waits for its client, a mirror that is ready, an export, an iothread."""
    for name in ("over", "mid", "base", "src", "dst"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size=1 << 20)
    monitor.images.write("src.qcow2", 0, 65536, 7)
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    commit = {"device": "over", "top-node": "mid", "base-node": "base", "auto-finalize": False}
    mirror = {"device": "src", "target": "dst", "sync": "full", "filter-node-name": "f0"}
    for name, arguments in (
        ("object-add", {"qom-type": "iothread", "id": "io0"}),
        ("blockdev-add", image("over", backing=image("mid", backing=image("base")))),
        ("blockdev-add", image("src")),
        ("blockdev-add", image("dst")),
        ("block-commit", {"job-id": "commit", **commit}),
        ("blockdev-mirror", {"job-id": "mirror", **mirror}),
        ("nbd-server-start", {"addr": address}),
        ("block-export-add", {"type": "nbd", "id": "e0", "node-name": "top"}),
        ("block-export-add", {"type": "nbd", "id": "e1", "node-name": "null"}),
    ):
        assert monitor.execute({"execute": name, "arguments": arguments}) == {"return": {}}


@lru_cache
def right() -> BlockState:
    """A qcow2 over a file, a copy-on-read with a bottom, a quorum, a throttle node, and jobs."""
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
    at_work(monitor)
    return monitor.state


def with_node(state: BlockState, filed: str, /, **changes: Any) -> BlockState:
    node = attrs.evolve(state.nodes[filed], **changes)
    return attrs.evolve(state, nodes=FrozenDict({**state.nodes, filed: node}))


def with_user(state: BlockState, filed: str, /, **changes: Any) -> BlockState:
    user = attrs.evolve(state.users[filed], **changes)
    return attrs.evolve(state, users=FrozenDict({**state.users, filed: user}))


def with_job(state: BlockState, filed: str, /, **changes: Any) -> BlockState:
    job = attrs.evolve(state.jobs[filed], **changes)
    return attrs.evolve(state, jobs=FrozenDict({**state.jobs, filed: job}))


def with_export(state: BlockState, filed: str, /, **changes: Any) -> BlockState:
    export = attrs.evolve(state.exports[filed], **changes)
    return attrs.evolve(state, exports=FrozenDict({**state.exports, filed: export}))


def thawed(state: BlockState, parent: str) -> BlockState:
    link = state.nodes[parent].link("backing")
    assert link is not None
    return with_node(
        state,
        parent,
        children=tuple(
            attrs.evolve(x, frozen=False) if x is link else x for x in state.nodes[parent].children
        ),
    )


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


BAD: list[tuple[Callable[..., str | None], Callable[[BlockState], BlockState]]] = [
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
    (inv.options_come_from_others, lambda s: with_node(s, "prot", inherits_from="prot")),
    (
        inv.links_are_frozen_where_somebody_claims_them,
        lambda s: with_node(
            s, "top", children=(attrs.evolve(s.nodes["top"].children[0], frozen=True),)
        ),
    ),
    (
        inv.links_are_frozen_where_somebody_claims_them,
        lambda s: with_node(
            s, "cor", children=(attrs.evolve(s.nodes["cor"].children[0], frozen=False),)
        ),
    ),
    (inv.links_are_frozen_where_somebody_claims_them, lambda s: thawed(s, "mid")),
    (
        inv.links_are_frozen_where_somebody_claims_them,
        lambda s: with_job(s, "commit", body=attrs.evolve(s.jobs["commit"].body, base="null")),
    ),
    (inv.implicit_nodes_are_filters_of_living_jobs, lambda s: with_node(s, "thr", implicit=True)),
    (
        inv.implicit_nodes_are_filters_of_living_jobs,
        lambda s: with_job(s, "commit", status="concluded"),
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
    (users.users_and_nodes_agree, lambda s: with_user(s, "export:e0", key="other")),
    (users.users_and_nodes_agree, lambda s: with_node(s, "top", parents=())),
    (
        users.users_and_nodes_agree,
        lambda s: with_user(s, "export:e0", links=s.users["export:e0"].links * 2),
    ),
    (users.users_and_nodes_agree, lambda s: with_user(s, "export:e0", links=(("root", "nobody"),))),
    (users.jobs_and_users_agree, lambda s: attrs.evolve(s, jobs=EMPTY)),
    (users.jobs_and_users_agree, lambda s: with_user(s, "job:mirror", name="other")),
    (users.exports_and_users_agree, lambda s: with_export(s, "e0", user="export:e1")),
    (users.exports_and_users_agree, lambda s: with_export(s, "e0", user="nobody")),
    (users.exports_and_users_agree, lambda s: with_export(s, "e0", export_name="null")),
    (users.exports_and_users_agree, lambda s: attrs.evolve(s, nbd_server=None)),
    (users.jobs_are_at_rest, lambda s: with_job(s, "commit", status="waiting")),
    (users.jobs_are_at_rest, lambda s: with_job(s, "mirror", paused=True)),
    (users.jobs_are_at_rest, lambda s: with_job(s, "mirror", current=1 << 40)),
    (users.jobs_are_at_rest, lambda s: with_job(s, "commit", error="bad luck")),
    (users.connected_nodes_share_a_context, lambda s: with_node(s, "prot", context="io0")),
    (users.connected_nodes_share_a_context, lambda s: with_user(s, "export:e0", context="io0")),
    (users.contexts_are_threads, lambda s: with_node(s, "thr", context="io9")),
    (inv.options_are_known_to_the_driver, lambda s: _options(s, "null", filename="hd0.qcow2")),
]


def ask(invariant: Callable[..., str | None], state: BlockState) -> str | None:
    needs_dialect = invariant in INVARIANTS_OF_DIALECT
    return told(DIALECT, invariant)(state) if needs_dialect else invariant(state)


@pytest.mark.parametrize("invariant", EVERY_INVARIANT)
def test_a_right_state_satisfies(invariant: Callable[..., str | None]) -> None:
    assert ask(invariant, right()) is None
    assert ask(invariant, BlockState()) is None


@pytest.mark.parametrize(
    ("invariant", "spoil"), BAD, ids=[f"{number}-{x.__name__}" for number, (x, _) in enumerate(BAD)]
)
def test_a_spoiled_state_does_not_satisfy(
    invariant: Callable[..., str | None], spoil: Callable[[BlockState], BlockState]
) -> None:
    wrong = ask(invariant, spoil(right()))
    assert wrong is not None
    assert "\n" not in wrong


def test_every_invariant_was_shown_to_fail() -> None:
    assert {x for x, _ in BAD} == {*EVERY_INVARIANT}


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
    laws = (*LAWS, *LAWS_OF_DIALECT, *JOB_LAWS, *JOB_LAWS_OF_DIALECT, *DATA_LAWS)
    names = {x.__name__ for x in (*EVERY_INVARIANT, *laws)}
    assert {witness.law for witness in WITNESSES} <= names
    assert len({witness.name for witness in WITNESSES}) == len(WITNESSES)
    assert {x.__name__ for x in laws} <= {witness.law for witness in WITNESSES}


def test_a_lonely_node_is_right() -> None:
    lonely = Node("n0", "null-co", monitor_owned=True)
    state = BlockState(nodes=FrozenDict({"n0": lonely}))
    assert all(ask(invariant, state) is None for invariant in EVERY_INVARIANT)
