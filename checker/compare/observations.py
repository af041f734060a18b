# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparing what the model expects of a step with what a real target showed.

Everything either side reports is compared: a member that only one of them has is a
difference. The exceptions are the few entries of :data:`MASKS` and of
:data:`NORMALISATIONS`. Names that QEMU generated are equal up to a renaming that must be the
same along the whole trace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeGuard

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model.values.trace import Json, Observation, Reply


@attrs.frozen
class Mask:
    """A member that is not compared, wherever it stands, and why not."""

    member: str
    reason: str


MASKS: tuple[Mask, ...] = (
    Mask("actual-size", "bytes that the host's file system happens to allocate for an image"),
    Mask("busy", "whether a job's coroutine is at work at the moment of the query"),
)
"""Every exception to equality. Listed by ``reopencheck doctor --masks``; fewer than ten."""


@attrs.frozen
class Normalisation:
    """Something that both sides are rid of before they are compared, and why."""

    what: str
    reason: str


NORMALISATIONS: tuple[Normalisation, ...] = (
    Normalisation(
        "JOB_STATUS_CHANGE to paused and back to running, to standby and back to ready",
        "every drain pauses the jobs on what it drains; how often is not part of the spec",
    ),
    Normalisation(
        "the order of events of different jobs and exports",
        "they work side by side; only the order for each of them is promised",
    ),
    Normalisation(
        "QUORUM_REPORT_BAD and QUORUM_FAILURE about a node of which there was one before",
        "QEMU sends one a second for each node, the others late or never",
    ),
)

_MASKED = frozenset(mask.member for mask in MASKS)

_GENERATED = re.compile(r"(#block\d+)")


class _Absent:
    """Stands for a member that one side does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


@attrs.frozen
class Mismatch:
    """The first place where two observations differ. Either value may be :data:`ABSENT`."""

    path: str
    expected: object
    got: object


class Renaming:
    """A bijection between the names that the model generated and those that QEMU did.

    It grows as pairs are met and never takes one back: a name that was paired once
    stands for the same node until the end of the trace.
    """

    __slots__ = ("_to_expected", "_to_got")

    def __init__(self) -> None:
        self._to_got: dict[str, str] = {}
        self._to_expected: dict[str, str] = {}

    def pair(self, expected: str, got: str) -> bool:
        """Whether two generated names may stand for each other; remembers that they do."""
        return (
            self._to_got.setdefault(expected, got) == got
            and self._to_expected.setdefault(got, expected) == expected
        )

    def equal(self, expected: str, got: str) -> bool:
        """Whether two texts are equal up to the renaming of generated names."""
        if "#block" not in expected or "#block" not in got:
            return expected == got
        left, right = _GENERATED.split(expected), _GENERATED.split(got)
        if len(left) != len(right) or left[::2] != right[::2]:
            return False
        return all(self.pair(e, g) for e, g in zip(left[1::2], right[1::2], strict=True))

    def to_got(self, expected: str) -> str:
        """The target's name for one of the model's, where it is known."""
        return self._to_got.get(expected, expected)


def _scalar_equal(expected: Json, got: Json) -> bool:
    # True == 1 in Python, and they are different answers in JSON.
    return bool(expected == got) and type(expected) is type(got)


def compare_values(expected: Json, got: Json, path: str, names: Renaming) -> Mismatch | None:
    """The first difference of two JSON values."""
    if isinstance(expected, str) and isinstance(got, str):
        return None if names.equal(expected, got) else Mismatch(path, expected, got)
    if isinstance(expected, dict) and isinstance(got, dict):
        return _compare_members(expected, got, path, names)
    if isinstance(expected, (list, tuple)) and isinstance(got, list):
        if len(expected) != len(got):
            return Mismatch(path, expected, got)
        for number, (left, right) in enumerate(zip(expected, got, strict=True)):
            found = compare_values(left, right, f"{path}[{number}]", names)
            if found is not None:
                return found
        return None
    return None if _scalar_equal(expected, got) else Mismatch(path, expected, got)


def _compare_members(
    expected: dict[str, Json], got: dict[str, Json], path: str, names: Renaming
) -> Mismatch | None:
    for key, left in expected.items():
        if key in _MASKED:
            continue
        right = got.get(key, ABSENT)
        if left is right:
            continue
        where = f"{path}.{key}" if path else key
        if right is ABSENT:
            return Mismatch(where, left, ABSENT)
        found = compare_values(left, right, where, names)
        if found is not None:
            return found
    if len(got) > len(expected) or not expected.keys() >= got.keys():
        for key, right in got.items():
            if key not in expected and key not in _MASKED:
                return Mismatch(f"{path}.{key}" if path else key, ABSENT, right)
    return None


def is_objects(value: Json) -> bool:
    """Whether a value is a list of objects, as the answers to our queries are."""
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _compare_named(
    what: str, member: str, expected: Json, got: Json, names: Renaming
) -> Mismatch | None:
    """Compare two lists of things that have a name: nodes, jobs, exports; newest first.

    An answer of any other form is a difference, too.
    """
    if not is_objects(expected) or not is_objects(got):
        return compare_values(expected, got, what, names)
    left = [str(each.get(member)) for each in expected]
    right = [str(each.get(member)) for each in got]
    if len(left) != len(right):
        return Mismatch(what, left, right)
    if not all(names.equal(e, g) for e, g in zip(left, right, strict=True)):
        return Mismatch(what, left, right)
    for name, e, g in zip(right, expected, got, strict=True):
        found = _compare_members(e, g, f"{what}[{name}]", names)
        if found is not None:
            return found
    return None


def _compare_nodes(expected: Json, got: Json, names: Renaming) -> Mismatch | None:
    """Compare two answers of ``query-named-block-nodes``."""
    return _compare_named("nodes", "node-name", expected, got, names)


Edge = tuple[str, str, str, tuple[str, ...], tuple[str, ...]]
"""Parent, name of the child, child, permissions, shared permissions (both sorted)."""


@attrs.frozen
class Graph:
    """An answer of ``x-debug-query-block-graph`` without its arbitrary numbers.

    ``vertices`` are ``(type, name)`` in the order of the answer, and so are ``edges``.
    """

    vertices: tuple[tuple[str, str], ...]
    edges: tuple[Edge, ...]


def is_graph(answer: Json) -> bool:
    """Whether a value has the form of an answer to ``x-debug-query-block-graph``."""
    if not isinstance(answer, dict):
        return False
    nodes: Json = answer.get("nodes")
    edges: Json = answer.get("edges")
    if not is_objects(nodes) or not is_objects(edges):
        return False
    numbers = [
        *(node.get("id") for node in nodes),
        *(edge.get(end) for edge in edges for end in ("parent", "child")),
    ]
    words = (edge.get(member, []) for edge in edges for member in ("perm", "shared-perm"))
    return all(isinstance(number, _NUMBERS) for number in numbers) and all(
        isinstance(each, list) and all(isinstance(word, str) for word in each) for each in words
    )


_NUMBERS = (int, float, str, type(None))


def read_graph(answer: dict[str, Json]) -> Graph:
    """The graph in terms of node names; vertices without a name get their position."""
    label: dict[object, str] = {}
    vertices = []
    for number, vertex in enumerate(answer.get("nodes", ())):
        kind, name = str(vertex.get("type", "")), str(vertex.get("name", ""))
        label[vertex.get("id")] = name if kind == "block-driver" else f"{kind}:{name or number}"
        vertices.append((kind, name))
    edges = [
        (
            label.get(edge.get("parent"), "?"),
            str(edge.get("name", "")),
            label.get(edge.get("child"), "?"),
            tuple(sorted(edge.get("perm", ()))),
            tuple(sorted(edge.get("shared-perm", ()))),
        )
        for edge in answer.get("edges", ())
    ]
    return Graph(tuple(vertices), tuple(edges))


def _compare_graphs(expected: Json, got: Json, names: Renaming) -> Mismatch | None:
    if not is_graph(expected) or not is_graph(got):
        return compare_values(expected, got, "graph", names)
    left, right = read_graph(expected), read_graph(got)
    if len(left.vertices) != len(right.vertices) or not all(
        e[0] == g[0] and names.equal(e[1], g[1])
        for e, g in zip(left.vertices, right.vertices, strict=True)
    ):
        return Mismatch("graph.nodes", list(left.vertices), list(right.vertices))
    renamed = [(names.to_got(e[0]), e[1], names.to_got(e[2]), e[3], e[4]) for e in left.edges]
    if renamed == list(right.edges):
        return None
    links, real_links = [e[:3] for e in renamed], [e[:3] for e in right.edges]
    if sorted(links) != sorted(real_links):
        missing = sorted(set(links) - set(real_links))
        extra = sorted(set(real_links) - set(links))
        return Mismatch("graph.edges", _spelled(missing), _spelled(extra))
    real = {edge[:3]: edge for edge in right.edges}
    for edge in renamed:
        other = real[edge[:3]]
        where = f"graph.edges[{edge[0]}.{edge[1]}]"
        if edge[3] != other[3]:
            return Mismatch(f"{where}.perm", list(edge[3]), list(other[3]))
        if edge[4] != other[4]:
            return Mismatch(f"{where}.shared-perm", list(edge[4]), list(other[4]))
    return Mismatch("graph.edges(order)", _spelled(links), _spelled(real_links))


def _spelled(links: Iterable[tuple[str, str, str]]) -> list[str]:
    return [f"{parent}.{name} -> {child}" for parent, name, child in links]


def _compare_replies(expected: Reply, got: Reply, names: Renaming) -> Mismatch | None:
    left, right = expected.get("return"), got.get("return")
    if isinstance(left, dict) and isinstance(right, dict) and "edges" in left and "edges" in right:
        return _within_reply(_compare_graphs(left, right, names))
    if isinstance(left, list) and isinstance(right, list) and _are_nodes(left + right):
        return _within_reply(_compare_nodes(left, right, names))
    if _is_version(left) and _is_version(right):
        return compare_values(left["qemu"], right["qemu"], "reply.return.qemu", names)
    if _are_names(left) and _are_names(right):
        return compare_values(_sorted(left), _sorted(right), "reply.return", names)
    return _compare_members(expected, got, "reply", names)


def _are_nodes(answer: list[Json]) -> bool:
    return bool(answer) and all(isinstance(n, dict) and "node-name" in n for n in answer)


def _is_version(answer: Json) -> TypeGuard[dict[str, Json]]:
    """Whether an answer is that of query-version, whose package is only a name for the build."""
    return isinstance(answer, dict) and answer.keys() == {"qemu", "package"}


def _are_names(answer: Json) -> TypeGuard[list[dict[str, Json]]]:
    """Whether an answer is a list of names and nothing else, as that of query-commands is."""
    return is_objects(answer) and all(each.keys() == {"name"} for each in answer)


def _sorted(answer: list[dict[str, Json]]) -> list[str]:
    """The names as the set that they are: QEMU lists its commands in no particular order."""
    return sorted(str(each["name"]) for each in answer)


def _within_reply(found: Mismatch | None) -> Mismatch | None:
    return None if found is None else attrs.evolve(found, path=f"reply.return: {found.path}")


def compare_step(expected: Observation, got: Observation, names: Renaming) -> Mismatch | None:
    """The first difference of one step, or None: reply first, then nodes, graph, jobs, exports.

    A part that either side was not asked for (None) is not compared. Events are a matter of the
    whole trace.
    """
    if ("error" in expected.reply) != ("error" in got.reply):
        return Mismatch("reply", expected.reply, got.reply)
    found = _compare_replies(expected.reply, got.reply, names)
    if found is None and expected.nodes is not None and got.nodes is not None:
        found = _compare_nodes(expected.nodes, got.nodes, names)
    if found is None and expected.graph is not None and got.graph is not None:
        found = _compare_graphs(expected.graph, got.graph, names)
    if found is None and expected.jobs is not None and got.jobs is not None:
        found = _compare_named("jobs", "device", expected.jobs, got.jobs, names)
    if found is None and expected.exports is not None and got.exports is not None:
        found = _compare_named("exports", "id", expected.exports, got.exports, names)
    return found
