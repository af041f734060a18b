# SPDX-License-Identifier: GPL-2.0-or-later
"""A finite alphabet of commands over a few equal images, for search that leaves nothing out.

Every image has one file node, one format node, and names that follow from its number, so that
nothing is told apart by its name alone. ``docs/compare.md`` lists what is in the alphabet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.trace import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.schema import Schema
    from model.state import BlockState
    from model.trace import Command

_SIZE = 131072
_DATA = 65536
NULL = "z"
FILTERS = ("c0", "c1")
JOB = "j"
_JOB_FILTER = "jf"
_ABSENT = "none"

Options = dict[str, Any]


def images(count: int) -> tuple[ImageSpec, ...]:
    """The images of a scope: all of one kind, with some data each."""
    return tuple(
        ImageSpec(f"hd{i}.qcow2", "qcow2", _SIZE, data=((0, _DATA, i + 1),)) for i in range(count)
    )


def names_streams(schema: Schema) -> bool:
    """Whether a stream can be told how to name its filter; before 6.0 it has none."""
    members = schema.members(schema.commands["block-stream"])
    return any(member.name == "filter-node-name" for member in members)


def letters(
    state: BlockState, start: BlockState, count: int, *, named: bool = True
) -> Iterator[Command]:
    """The commands that are tried in a state of a scope that began with ``start``.

    They name what is there, and the filters of streams if those can be ``named``. Of the images
    that nothing has touched yet only the first is taken: what follows with another one is the
    same up to names.
    """
    used = [i for i in range(count) if _touched(state, start, i)]
    fresh = [i for i in range(count) if i not in used][:1]
    yield from _additions(state, [*used, *fresh], count)
    for name in state.nodes:
        yield from _reopens(state, name)
    for name in state.nodes:
        yield _command("blockdev-del", **{"node-name": name})
    yield from _jobs(state, named=named)
    if state is start:
        yield _command("blockdev-del", **{"node-name": _ABSENT})
        yield _reopen({"driver": "null-co", "node-name": _ABSENT})
        yield _command("blockdev-reopen", options=[])


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


def _additions(state: BlockState, chosen: list[int], count: int) -> Iterator[Command]:
    if NULL not in state.nodes:
        yield _command("blockdev-add", **_ZEROES)
        yield _command("blockdev-add", **_ZEROES, **{"detect-zeroes": "on"})
    for i in chosen:
        if f"f{i}" not in state.nodes:
            yield _command("blockdev-add", **_file(i))
            yield _command("blockdev-add", **_file(i), **{"read-only": True})
    for i in chosen:
        if f"d{i}" in state.nodes:
            continue
        file = f"f{i}" if f"f{i}" in state.nodes else _file(i)
        for backing in _backings(state, i, chosen, count):
            yield _command("blockdev-add", **_format(i, file, backing))
            yield _command("blockdev-add", **_format(i, file, backing), **{"read-only": True})
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


def _jobs(state: BlockState, *, named: bool) -> Iterator[Command]:
    if state.jobs:
        yield _command("job-finalize", id=JOB)
        yield _command("job-cancel", id=JOB)
        return
    kept = {"job-id": JOB, "auto-finalize": False}
    name_of_filter = {"filter-node-name": _JOB_FILTER}
    for name, node in state.nodes.items():
        if node.driver == "qcow2" and node.link("backing") is not None:
            yield _command("block-stream", device=name, **kept, **(name_of_filter if named else {}))
            yield _command("block-commit", device=name, **kept, **name_of_filter)
