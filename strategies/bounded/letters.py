# SPDX-License-Identifier: GPL-2.0-or-later
"""All the commands of a kind that there are in a small scope: a few equal images, a few names.

Every image has one file node, one format node, and names that follow from its number, so that
nothing is told apart by its name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from model.values.trace import Command

if TYPE_CHECKING:
    from model.values.state import BlockState

NULL = "z"
FILTERS = ("c0", "c1")
JOB = "j"
_JOB_FILTER = "jf"
_ABSENT = "none"

Options = dict[str, Any]


@attrs.frozen
class Position:
    """A state in the search of a scope."""

    state: BlockState
    start: BlockState
    """The state that the search began with: the images alone."""
    count: int
    """How many images there are."""
    named: bool
    """Whether the filter of a stream can be named."""

    @property
    def chosen(self) -> list[int]:
        """The images to use: of those that nothing has touched yet, only the first.

        What follows with another one is the same up to names.
        """
        used = [i for i in range(self.count) if _touched(self.state, self.start, i)]
        return [*used, *[i for i in range(self.count) if i not in used][:1]]


Letters = Callable[[Position], Iterator[Command]]
"""All commands of a kind in a position. The docstring lists them."""


def _touched(state: BlockState, start: BlockState, number: int) -> bool:
    name = f"hd{number}.qcow2"
    there = f"f{number}" in state.nodes or f"d{number}" in state.nodes
    return there or state.images[name] != start.images[name]


def _command(name: str, **arguments: Any) -> Command:
    return {"execute": name, "arguments": arguments}


def _reopen(*options: Options) -> Command:
    return _command("blockdev-reopen", options=list(options))


def _file(number: int) -> Options:
    return {"driver": "file", "node-name": f"f{number}", "filename": f"hd{number}.qcow2"}


def _format(number: int, file: Any, backing: Any) -> Options:
    return {"driver": "qcow2", "node-name": f"d{number}", "file": file, "backing": backing}


_ZEROES: Options = {"driver": "null-co", "node-name": NULL}


def leaves(position: Position) -> Iterator[Command]:
    """`null-co` named `z`, plain or `detect-zeroes`; a `file` per image, plain or read-only."""
    state = position.state
    if NULL not in state.nodes:
        yield _command("blockdev-add", **_ZEROES)
        yield _command("blockdev-add", **_ZEROES, **{"detect-zeroes": "on"})
    for i in position.chosen:
        if f"f{i}" not in state.nodes:
            yield _command("blockdev-add", **_file(i))
            yield _command("blockdev-add", **_file(i), **{"read-only": True})


def formats(position: Position) -> Iterator[Command]:
    """A `qcow2` per image, `d0`…, over its `f…`, there or inline, plain or read-only.

    `backing` is null, each `z` or `d…` that is there, an inline `z`, or an inline image.
    """
    state, chosen = position.state, position.chosen
    for i in chosen:
        if f"d{i}" in state.nodes:
            continue
        file = f"f{i}" if f"f{i}" in state.nodes else _file(i)
        for backing in _backings(state, i, chosen, position.count):
            yield _command("blockdev-add", **_format(i, file, backing))
            yield _command("blockdev-add", **_format(i, file, backing), **{"read-only": True})


def filters(position: Position) -> Iterator[Command]:
    """A `copy-on-read`, `c0` or `c1`, over each `d…`, with and without `bottom`."""
    state = position.state
    name = next((each for each in FILTERS if each not in state.nodes), None)
    for below in state.nodes if name else ():
        if below.startswith("d"):
            options = {"driver": "copy-on-read", "node-name": name, "file": below}
            yield _command("blockdev-add", **options)
            link = state.nodes[below].link("backing")
            if link is not None:
                yield _command("blockdev-add", **options, bottom=link.child)


def _backings(state: BlockState, number: int, chosen: list[int], count: int) -> Iterator[Any]:
    """What a new image may have below it: nothing, what is there, or what comes along."""
    yield None
    for name in state.nodes:
        if name == NULL or name.startswith("d"):
            yield name
    if NULL not in state.nodes:
        yield _ZEROES
    fresh = [i for i in range(count) if not {f"f{i}", f"d{i}"} & state.nodes.keys()]
    below = [i for i in fresh if i != number and (i in chosen or number in chosen)][:1]
    for i in below:
        yield _format(i, _file(i), None)


def reopens(position: Position) -> Iterator[Command]:
    """`z`: plain, read-only, `detect-zeroes` on or null, another driver.

    `f…`: with and without `filename`; `read-only` true or null.
    `d…`: `backing` omitted, null, each other `z` or `d…`, an inline `z`, times `read-only` omitted,
    true or null; without `file`; with each other `f…` as `file`.
    `c…`: with and without `file`.
    At the start: no such node, an empty list.
    """
    for name in position.state.nodes:
        yield from _reopens(position.state, name)
    if position.state is position.start:
        yield _reopen({"driver": "null-co", "node-name": _ABSENT})
        yield _command("blockdev-reopen", options=[])


def deletions(position: Position) -> Iterator[Command]:
    """Each node; at the start, one that is not there."""
    for name in position.state.nodes:
        yield _command("blockdev-del", **{"node-name": name})
    if position.state is position.start:
        yield _command("blockdev-del", **{"node-name": _ABSENT})


def _reopens(state: BlockState, name: str) -> Iterator[Command]:
    node = state.nodes[name]
    known: Options = {"driver": node.driver, "node-name": name}
    if node.driver == "null-co":
        for more in ({}, {"read-only": True}, {"detect-zeroes": "on"}, {"detect-zeroes": None}):
            yield _reopen({**known, **more})
        yield _reopen({**known, "driver": "null-aio"})
    elif node.driver == "file":
        given = {**known, "filename": node.filename}
        for options in (given, known, {**given, "read-only": True}, {**given, "read-only": None}):
            yield _reopen(options)
    elif node.driver == "qcow2":
        yield from _format_reopens(state, name, known)
    elif node.driver == "copy-on-read":
        link = node.link("file")
        if link is not None:
            yield _reopen({**known, "file": link.child})
        yield _reopen(known)


def _format_reopens(state: BlockState, name: str, known: Options) -> Iterator[Command]:
    link = state.nodes[name].link("file")
    with_file = known if link is None else {**known, "file": link.child}
    others = [each for each in state.nodes if each != name and (each[0] in "dz")]
    below: list[Options] = [{}, {"backing": None}, *({"backing": each} for each in others)]
    if NULL not in state.nodes:
        below.append({"backing": _ZEROES})
    for backing in below:
        for more in ({}, {"read-only": True}, {"read-only": None}):
            yield _reopen({**with_file, **backing, **more})
    yield _reopen(known)
    for each in state.nodes:
        if each[0] == "f" and link is not None and each != link.child:
            yield _reopen({**known, "file": each, "backing": None})


def commits(position: Position) -> Iterator[Command]:
    """Each `d…` with a backing file, where there is no job: as job `j`, to be finalized."""
    for name in _tops(position):
        yield _command("block-commit", device=name, **_KEPT, **_NAMED)


def streams(position: Position) -> Iterator[Command]:
    """Each `d…` with a backing file, where there is no job: as job `j`, to be finalized."""
    for name in _tops(position):
        yield _command("block-stream", device=name, **_KEPT, **(_NAMED if position.named else {}))


_KEPT: Options = {"job-id": JOB, "auto-finalize": False}
_NAMED: Options = {"filter-node-name": _JOB_FILTER}


def _tops(position: Position) -> Iterator[str]:
    """What a job may work on, where there is none yet."""
    nodes = {} if position.state.jobs else position.state.nodes
    for name, node in nodes.items():
        if node.driver == "qcow2" and node.link("backing") is not None:
            yield name


def finalizations(position: Position) -> Iterator[Command]:
    """The job `j`."""
    if position.state.jobs:
        yield _command("job-finalize", id=JOB)


def cancellations(position: Position) -> Iterator[Command]:
    """The job `j`."""
    if position.state.jobs:
        yield _command("job-cancel", id=JOB)
