# SPDX-License-Identifier: GPL-2.0-or-later
"""Delta debugging of traces: the smallest trace that still shows the same thing.

Works on any predicate over traces. A command that depends on one that was dropped
simply fails in the replay, which does no harm as long as the predicate still holds. Waits for
jobs are no commands of their own here: they follow from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
from model.commands.harness import DRIVING
from model.values.image_layout import ImageError
from model.values.trace import WRITE, ImageSpec, Json, Trace, name_of

from checker.interrupts import check as check_interrupts
from checker.settling import is_wait
from targets.errors import TargetError

T = TypeVar("T")

Predicate = Callable[[Trace], bool]

_SECTOR = 512


class _Spent(Exception):  # noqa: N818  # leaves the search, is no error
    """The bound on replays was met."""


@attrs.frozen
class Reduction:
    """The smallest trace found, how many replays it took, and whether the search was finished."""

    trace: Trace
    replays: int
    finished: bool


class _Search:
    """The best trace so far; every question to the predicate goes through here."""

    def __init__(
        self,
        trace: Trace,
        predicate: Predicate,
        most_replays: int,
        stopped: Callable[[], bool],
        settle: Callable[[Trace], Trace],
    ) -> None:
        self.best = trace
        self.replays = 0
        self._predicate = predicate
        self._most = most_replays
        self._stopped = stopped
        self._settle = settle
        self._asked: set[str] = {repr(trace)}

    def better(self, candidate: Trace) -> bool:
        """Ask about a candidate with its waits put right, and keep it if the predicate holds.

        One that cannot be carried out (an image that cannot be made, a daemon that does not start
        so) does not show the same. If nothing can be carried out any more, the caller finds out.
        """
        check_interrupts()
        try:
            candidate = self._settle(candidate)
        except ImageError:
            return False  # data on an image whose backing file is gone
        key = repr(candidate)
        if key in self._asked:
            return False
        if self.replays >= self._most or self._stopped():
            raise _Spent
        self._asked.add(key)
        self.replays += 1
        try:
            if self._predicate(candidate):
                self.best = candidate
                return True
        except (ImageError, TargetError):
            pass
        return False


def _never() -> bool:
    return False


def _as_it_is(trace: Trace) -> Trace:
    return trace


def reduce_trace(
    trace: Trace,
    predicate: Predicate,
    most_replays: int = 200,
    stopped: Callable[[], bool] = _never,
    settle: Callable[[Trace], Trace] = _as_it_is,
) -> Reduction:
    """Shrink ``trace``, for which ``predicate`` holds.

    The predicate is asked at most ``most_replays`` times, and not at all once ``stopped``
    says so. Commands go first, then images and their data, members of arguments, and what is
    written, until nothing can go. ``settle`` puts the waits of a changed trace right.
    """
    search = _Search(trace, predicate, most_replays, stopped, settle)
    try:
        while True:
            before = search.best
            _drop_commands(search)
            _drop_images(search)
            _drop_data(search)
            _drop_members(search)
            _write_less(search)
            if search.best == before:
                return Reduction(search.best, search.replays, finished=True)
    except _Spent:
        return Reduction(search.best, search.replays, finished=False)


def _drop_commands(search: _Search) -> None:
    def keeps(kept: Sequence[dict[str, Any]]) -> bool:
        return search.better(attrs.evolve(search.best, commands=tuple(kept)))

    ddmin([command for command in search.best.commands if not is_wait(command)], keeps)


def _drop_images(search: _Search) -> None:
    def keeps(kept: Sequence[Any]) -> bool:
        names = {image.name for image in kept}
        # An image that is made on another one needs it to be there.
        if any(image.backing is not None and image.backing not in names for image in kept):
            return False
        return search.better(attrs.evolve(search.best, images=tuple(kept)))

    ddmin(search.best.images, keeps)


def _drop_data(search: _Search) -> None:
    """Drop what is written to images beforehand, then write less of what is left."""
    for name in [image.name for image in search.best.images if image.data]:
        _drop_data_of(search, name)


def _drop_data_of(search: _Search, name: str) -> None:
    def image() -> ImageSpec:
        return next(image for image in search.best.images if image.name == name)

    def keeps(data: Sequence[tuple[int, int, int]]) -> bool:
        smaller = attrs.evolve(image(), data=tuple(data))
        images = (smaller if each.name == name else each for each in search.best.images)
        return search.better(attrs.evolve(search.best, images=tuple(images)))

    for number in range(len(ddmin(image().data, keeps))):
        data = image().data
        offset, length, pattern = data[number]
        for less in _lengths(length):
            if not keeps((*data[:number], (offset, less, pattern), *data[number + 1 :])):
                break


def _write_less(search: _Search) -> None:
    """Let commands that write write less."""
    for number, command in enumerate(search.best.commands):
        if name_of(command) != WRITE:
            continue
        for less in _lengths(command["arguments"]["length"]):
            smaller = {**command, "arguments": {**command["arguments"], "length": less}}
            before, after = search.best.commands[:number], search.best.commands[number + 1 :]
            if not search.better(attrs.evolve(search.best, commands=(*before, smaller, *after))):
                break


def _lengths(length: int) -> Iterator[int]:
    """Smaller lengths, each half of the one before, in whole sectors."""
    while length > _SECTOR:
        length = max(_SECTOR, length // 2 // _SECTOR * _SECTOR)
        yield length


def ddmin(items: Sequence[T], holds: Callable[[Sequence[T]], bool]) -> tuple[T, ...]:
    """Zeller's ddmin: a 1-minimal part of ``items`` for which ``holds`` (it does for all of them).

    Complements are asked from the end first: what comes after a failure never matters.
    """
    current = tuple(items)
    parts = 2
    while current:
        size = max(1, len(current) // parts)
        for start in range(((len(current) - 1) // size) * size, -1, -size):
            candidate = current[:start] + current[start + size :]
            if holds(candidate):
                current = candidate
                parts = max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(current), parts * 2)
    return current


def _drop_members(search: _Search) -> None:
    """Drop members of arguments and items of lists one at a time, outermost first."""
    number = 0
    while number < len(search.best.commands):
        changed = True
        while changed:
            changed = False
            commands = search.best.commands
            command = commands[number]
            if "arguments" not in command or name_of(command) in DRIVING:
                break
            for arguments in _without_one(command["arguments"]):
                smaller = {**command, "arguments": arguments}
                candidate = (*commands[:number], smaller, *commands[number + 1 :])
                if search.better(attrs.evolve(search.best, commands=candidate)):
                    changed = True
                    break
        number += 1


def _without_one(value: Json) -> Iterator[Json]:
    """The value with each single member or item dropped, at any depth, large ones first."""
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
        for key, item in value.items():
            for smaller in _without_one(item):
                yield {**value, key: smaller}
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value[:index] + value[index + 1 :]
        for index, item in enumerate(value):
            for smaller in _without_one(item):
                yield [*value[:index], smaller, *value[index + 1 :]]
