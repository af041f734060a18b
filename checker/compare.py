# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparing what the model expects with what a real target showed, step by step.

Everything either side reports is compared: a member that only one of them has is a
difference. The exceptions are the few entries of :data:`MASKS` and of
:data:`NORMALISATIONS`. Names that QEMU generated are equal up to a renaming that must be the
same along the whole trace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs
from model.values.trace import RATE_LIMITED, Json, Observation, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
        "every drain pauses the jobs on what it drains; how often QEMU drains is its own business",
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


def _compare(expected: Json, got: Json, path: str, names: Renaming) -> Mismatch | None:
    """The first difference of two JSON values."""
    if isinstance(expected, str) and isinstance(got, str):
        return None if names.equal(expected, got) else Mismatch(path, expected, got)
    if isinstance(expected, dict) and isinstance(got, dict):
        return _compare_members(expected, got, path, names)
    if isinstance(expected, (list, tuple)) and isinstance(got, list):
        if len(expected) != len(got):
            return Mismatch(path, expected, got)
        for number, (left, right) in enumerate(zip(expected, got, strict=True)):
            found = _compare(left, right, f"{path}[{number}]", names)
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
        found = _compare(left, right, where, names)
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
        return _compare(expected, got, what, names)
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
        return _compare(expected, got, "graph", names)
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
    return _compare_members(expected, got, "reply", names)


def _are_nodes(answer: list[Json]) -> bool:
    return bool(answer) and all(isinstance(n, dict) and "node-name" in n for n in answer)


def _within_reply(found: Mismatch | None) -> Mismatch | None:
    return None if found is None else attrs.evolve(found, path=f"reply.return: {found.path}")


_BACK = {"running": "paused", "ready": "standby"}

Event = dict[str, Json]


def _data(event: Event) -> dict[str, Json]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _subject(event: Event) -> str:
    """What an event is about: the name of a job or an export, otherwise just the kind of event."""
    data = _data(event)
    return str(data.get("device") or data.get("id") or event.get("event"))


def _status(event: Event) -> str | None:
    status = _data(event).get("status") if event.get("event") == "JOB_STATUS_CHANGE" else None
    return status if isinstance(status, str) else None


def _node(event: Event) -> object:
    data = _data(event)
    return data.get("node-name", data.get("reference"))


def _told(events: Sequence[Event], number: int) -> object:
    """One of the events in words, without what it is about."""
    if number >= len(events):
        return ABSENT
    event = events[number]
    data = _data(event)
    words = [f"{key}={data[key]}" for key in sorted(data) if key not in {"id", "device"}]
    return " ".join([str(event.get("event")), *words])


class Events:
    """The events of both sides so far, those of each job and export by themselves."""

    def __init__(self) -> None:
        self._expected: dict[str, list[Event]] = {}
        self._got: dict[str, list[Event]] = {}
        self._new: dict[str, None] = {}

    def take(self, expected: Iterable[Event], got: Iterable[Event]) -> None:
        """Add the events of a step."""
        for events, side in ((expected, self._expected), (got, self._got)):
            for event in events:
                subject = _subject(event)
                self._new[subject] = None
                told = side.setdefault(subject, [])
                back = _BACK.get(_status(event) or "")
                if subject in RATE_LIMITED and any(_node(event) == _node(each) for each in told):
                    continue
                if back is not None and told and _status(told[-1]) == back:
                    told.pop()
                else:
                    told.append(event)

    def compare(self, names: Renaming) -> Mismatch | None:
        """The first difference, now that both sides are at rest."""
        for subject in self._new:
            left, right = self._expected.get(subject, []), self._got.get(subject, [])
            equal = [_compare(e, g, "", names) is None for e, g in zip(left, right, strict=False)]
            if not all(equal) or len(left) != len(right):
                number = equal.index(False) if False in equal else len(equal)
                return Mismatch(f"events[{subject}]", _told(left, number), _told(right, number))
        self._new.clear()
        return None


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


def without_repeated(
    expected: Observation, got: Observation, before: tuple[Observation, Observation] | None
) -> tuple[Observation, Observation]:
    """Leave out the nodes and the graph where they are the very ones that were equal before.

    Most refused commands change nothing, and both sides then hand out the same objects again.
    """
    if before is None:
        return expected, got
    nodes = expected.nodes is before[0].nodes and got.nodes is before[1].nodes
    graph = expected.graph is before[0].graph and got.graph is before[1].graph
    if not nodes and not graph:
        return expected, got
    left = Observation(
        expected.reply,
        None if nodes else expected.nodes,
        None if graph else expected.graph,
        expected.events,
        expected.jobs,
        expected.exports,
    )
    return left, got


@attrs.frozen
class StepMismatch:
    """The first difference of a whole trace; ``step`` counts from 0."""

    step: int
    path: str
    expected: object
    got: object


def compare_trace(
    expected: Sequence[Observation], got: Sequence[Observation]
) -> StepMismatch | None:
    """The first difference along the steps that both sides have, or None.

    Events are compared wherever the target was observed, and at the end: a step that was not is
    in the midst of something. A target that died has fewer steps; that is reported by the replay,
    not here.
    """
    names = Renaming()
    events = Events()
    before: tuple[Observation, Observation] | None = None
    last = min(len(expected), len(got)) - 1
    for number, (left, right) in enumerate(zip(expected, got, strict=False)):
        found = compare_step(*without_repeated(left, right, before), names)
        if left.events or right.events:
            events.take(left.events, right.events)
        if found is None and (right.nodes is not None or number == last):
            found = events.compare(names)
        before = (left, right)
        if found is not None:
            return StepMismatch(number, found.path, found.expected, found.got)
    return None
