# SPDX-License-Identifier: GPL-2.0-or-later
"""The values of the spec, and the parts that no QMP command reaches."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import attrs
import pytest

from model import (
    BlockState,
    Monitor,
    NoSuchDialectError,
    find_dialect,
    nearest_dialect,
    reopen_keeping,
    step,
)
from model.values.programs import EMULATOR
from model.values.state import FrozenDict

DIALECT = find_dialect("qemu-7.2")


def add(monitor: Monitor, **options: Any) -> dict[str, Any]:
    arguments = {key.replace("_", "-"): value for key, value in options.items()}
    return monitor.execute({"execute": "blockdev-add", "arguments": arguments})


def reopen(monitor: Monitor, **options: Any) -> dict[str, Any]:
    arguments = {"options": [{key.replace("_", "-"): value for key, value in options.items()}]}
    return monitor.execute({"execute": "blockdev-reopen", "arguments": arguments})


@pytest.fixture
def chain() -> Monitor:
    """hd1 over hd0, each with a file node of its own."""
    monitor = Monitor(DIALECT)
    for name in ("hd0", "hd1"):
        monitor.images.create(f"{name}.qcow2", format="qcow2", size="1M")
    reply = add(
        monitor,
        driver="qcow2",
        node_name="hd1",
        cache={"no-flush": True},
        l2_cache_size=65536,
        file={"driver": "file", "filename": "hd1.qcow2", "node-name": "hd1f"},
        backing={
            "driver": "qcow2",
            "node-name": "hd0",
            "file": {"driver": "file", "filename": "hd0.qcow2", "node-name": "hd0f"},
        },
    )
    assert reply == {"return": {}}
    return monitor


def test_the_model_needs_attrs_and_networkx_only() -> None:
    code = (
        "import sys, model, model.monitor\n"
        "bad = {'hypothesis', 'click', 'rich', 'msgspec', 'jinja2', 'qemu', 'junitparser'}\n"
        "sys.exit(bool(bad & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_equal_states_are_equal_and_hash_equal(chain: Monitor) -> None:
    again = Monitor(DIALECT)
    again.state = attrs.evolve(chain.state, nodes=FrozenDict(dict(chain.state.nodes)))
    assert again.state == chain.state
    assert hash(again.state) == hash(chain.state)
    assert chain.state != BlockState()


def test_a_state_cannot_be_changed(chain: Monitor) -> None:
    with pytest.raises(TypeError, match="immutable"):
        chain.state.nodes["x"] = chain.state.nodes["hd0"]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        chain.state.serial = 3  # type: ignore[misc]


def test_a_refused_command_returns_the_same_state(chain: Monitor) -> None:
    command = {"execute": "blockdev-del", "arguments": {"node-name": "hd0"}}
    outcome = step(chain.state, command, DIALECT)
    assert outcome.state is chain.state
    assert outcome.refused == {"node.busy"}


def test_a_query_returns_the_same_state(chain: Monitor) -> None:
    outcome = step(chain.state, {"execute": "query-named-block-nodes"}, DIALECT)
    assert outcome.ok
    assert outcome.state is chain.state


def test_the_graph_as_networkx(chain: Monitor) -> None:
    graph = chain.state.to_networkx()
    assert sorted(graph.nodes) == ["hd0", "hd0f", "hd1", "hd1f"]
    assert {(a, b, key) for a, b, key in graph.edges(keys=True)} == {
        ("hd1", "hd1f", "file"),
        ("hd1", "hd0", "backing"),
        ("hd0", "hd0f", "file"),
    }


def test_an_internal_reopen_keeps_what_it_does_not_name(chain: Monitor) -> None:
    before = chain.state.nodes["hd1"]
    outcome = reopen_keeping(chain.state, "hd1", {"read-only": True}, DIALECT)
    after = outcome.state.nodes["hd1"]
    assert outcome.ok
    assert after.read_only
    assert after.no_flush
    assert after.options["l2-cache-size"] == before.options["l2-cache-size"]
    assert [link.child for link in after.children] == [link.child for link in before.children]


def test_an_internal_reopen_can_be_refused(chain: Monitor) -> None:
    assert add(chain, driver="raw", node_name="top", file="hd1") == {"return": {}}
    assert add(chain, driver="copy-on-read", node_name="cor", file="top") == {"return": {}}
    outcome = reopen_keeping(chain.state, "hd1", {"read-only": True}, DIALECT)
    assert outcome.refused == {"permissions.read-only-reopen"}
    assert outcome.reply["error"]["desc"] == (
        "Read-only block node 'hd1' cannot support read-write users"
    )


def test_an_implicit_child_is_not_replaced(chain: Monitor) -> None:
    """Only jobs make such a child; here it is made by hand."""
    add(chain, driver="null-co", node_name="other")
    hidden = attrs.evolve(chain.state.nodes["hd0"], implicit=True)
    chain.state = attrs.evolve(chain.state, nodes=FrozenDict({**chain.state.nodes, "hd0": hidden}))
    reply = reopen(chain, driver="qcow2", node_name="hd1", file="hd1f", backing="other")
    assert reply["error"]["desc"] == "Cannot replace implicit backing child of hd1"


def test_an_omitted_option_goes_back_to_its_default(chain: Monitor) -> None:
    assert reopen(chain, driver="qcow2", node_name="hd1", file="hd1f", backing="hd0") == {
        "return": {}
    }
    node = chain.state.nodes["hd1"]
    assert "l2-cache-size" not in node.options
    assert not node.no_flush


def test_a_dialect_without_a_rule_does_not_refuse_by_it(chain: Monitor) -> None:
    dialect = DIALECT.without("node.busy")
    command = {"execute": "blockdev-del", "arguments": {"node-name": "hd0"}}
    outcome = step(chain.state, command, dialect)
    assert outcome.refused == {"del.not-owned"}


def test_unknown_dialects_and_rules_are_named() -> None:
    known = r"there are: qemu-10\.0, qemu-11\.1, qemu-5\.2, qemu-7\.2"
    with pytest.raises(NoSuchDialectError, match=known):
        find_dialect("qemu-9")
    with pytest.raises(NoSuchDialectError, match="no rule is called 'x'"):
        DIALECT.without("x")


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ((5, 1), "qemu-5.2"),
        ((5, 2), "qemu-5.2"),
        ((6, 1), "qemu-5.2"),
        ((7, 2), "qemu-7.2"),
        ((9, 0), "qemu-7.2"),
        ((10, 0), "qemu-10.0"),
        ((10, 2), "qemu-10.0"),
    ],
)
def test_the_nearest_dialect(release: tuple[int, int], name: str) -> None:
    assert nearest_dialect(release) is find_dialect(name)


@pytest.mark.parametrize("release", [(5, 2), (7, 2), (10, 0)])
def test_the_nearest_dialect_of_another_program(release: tuple[int, int]) -> None:
    assert nearest_dialect(release, EMULATOR) is find_dialect("qemu-system-7.2")


def test_every_rule_says_what_it_is() -> None:
    for rule in DIALECT.rules():
        assert rule.sentence.endswith("."), rule.id
        assert rule.source, rule.id
        assert rule.text or rule.kind != "guard" or rule.ends, rule.id


@pytest.mark.parametrize("release", ["qemu-7.2", "qemu-10.0", "qemu-11.1"])
def test_no_object_is_called_as_the_property_of_their_container(release: str) -> None:
    monitor = Monitor(release)
    for name, accepted in (("type", False), ("types", True), ("id", True), ("parent", True)):
        reply = monitor.execute(
            {"execute": "object-add", "arguments": {"qom-type": "iothread", "id": name}}
        )
        assert ("return" in reply) is accepted
        if not accepted:
            text = f"attempt to add duplicate property '{name}' to object (type 'container')"
            assert reply["error"] == {"class": "GenericError", "desc": text}
