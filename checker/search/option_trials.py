# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of each option of each driver when a node is reopened with it, and without it.

For every optional option in a schema, and several values, a node is added with it and then
reopened: once with the very same options, once with all but this one. In between, and with
children that inherit options or have their own, nobody asks for any change. What is refused or
changes all the same is what a client has to know.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from checker.compare.observations import is_objects
from model.values.trace import Trace
from strategies.bounded.option_trials import (
    CHILD,
    IMAGES,
    NODE,
    OPENINGS,
    Opening,
    again,
    choices,
    with_option,
)
from targets.errors import ContainmentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from model.values.trace import Command, Json, Observation

    Show = Callable[[Trace], Sequence[Observation]]

_GENERIC = ("read-only", "auto-read-only", "discard", "detect-zeroes", "force-share", "cache")
_DIED = "the daemon died"
_NOT_HERE = "needs a device, a server or an image that is not made here, or no trace may use it"
_NO_NODES = "the daemon does not say which nodes there are"


@attrs.frozen
class Outcome:
    """What a reopen did: an error text, or what it changed (``n.ro: True -> False``)."""

    refused: str = ""
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.refused:
            return f"refused: {self.refused}"
        return "; ".join(self.changes) or "as before"


@attrs.frozen
class Trial:
    """One option with one value: how it was given, and what came of each reopen.

    ``how`` says what is asked (:data:`HOWS`); ``trace`` ends with the reopen.
    """

    driver: str
    option: str
    value: Json
    how: str
    outcome: Outcome
    trace: Trace

    def as_json(self) -> dict[str, Json]:
        """For machines."""
        return {
            "driver": self.driver,
            "option": self.option,
            "value": self.value,
            "how": self.how,
            "refused": self.outcome.refused,
            "changes": list(self.outcome.changes),
        }


@attrs.frozen
class Untried:
    """A driver or an option that was not tried: there is none, or the driver ``refuses`` all."""

    driver: str
    option: str
    why: str
    refuses: bool = False

    def as_json(self) -> dict[str, Json]:
        """For machines."""
        return attrs.asdict(self)


HOWS: dict[str, str] = {
    "same": "reopened with the options of blockdev-add",
    "left out": "reopened with all of them but this one",
    "child": "given to the parent; its inline child is reopened with the child's own options",
    "parent": "given to the inline child; its parent is reopened with the parent's own options",
}


def trials(
    types: Mapping[str, Any], show: Show, drivers: Sequence[str] | None = None
) -> Iterator[Trial | Untried]:
    """Try every option of every driver that a schema has on what ``show`` asks."""
    for driver in drivers or sorted(types["blockdev-add.arg"]["variants"]):
        opening = OPENINGS.get(driver)
        if opening is None:
            yield Untried(driver, "", _NOT_HERE)
            continue
        asked = _Asked(show, opening, opening.options)
        told = asked.added()
        if told is not None:
            yield Untried(driver, "", told)
            continue
        plain, _ = asked.reopened({**again(opening.options), "node-name": NODE})
        if plain.refused:
            yield Untried(driver, "", plain.refused, refuses=True)
            continue
        for choice in choices(types, driver):
            yield from _of_option(driver, opening, choice.path, choice.values, show)
    for driver in ("raw", "qcow2"):
        if drivers is None or driver in drivers:
            yield from _of_children(types, driver, show)


class _Asked:
    """A node that is added, and what it looks like then."""

    def __init__(self, show: Show, opening: Opening, options: Mapping[str, Any]) -> None:
        self._show = show
        self._before = opening.before
        self._add = _command("blockdev-add", **{**options, "node-name": NODE})

    def added(self) -> str | None:
        """Why it cannot be added, None if it can."""
        try:
            seen = self._show(Trace(IMAGES, (*self._before, self._add)))
        except ContainmentError as error:  # a value that no trace may have
            return str(error)
        return _text(seen, len(self._before))

    def reopened(self, options: Mapping[str, Any]) -> tuple[Outcome, Trace]:
        """What a reopen with these options does to it."""
        reopen = _command("blockdev-reopen", options=[dict(options)])
        trace = Trace(IMAGES, (*self._before, self._add, reopen))
        seen = self._show(trace)
        text = _text(seen, len(trace.commands) - 1)
        if text is not None:
            return Outcome(text), trace
        before, after = seen[-2].nodes or [], seen[-1].nodes or []
        if not is_objects(before) or not is_objects(after):
            return Outcome(_NO_NODES), trace
        return Outcome("", tuple(sorted(changes(before, after)))), trace


def _text(seen: Sequence[Observation], step: int) -> str | None:
    if step >= len(seen):
        return _DIED
    error = seen[step].reply.get("error")
    return None if error is None else str(error["desc"])


def _of_option(
    driver: str, opening: Opening, path: tuple[str, ...], values: Sequence[Json], show: Show
) -> Iterator[Trial | Untried]:
    option = ".".join(path)
    why = "no value is tried"
    tried = False
    plain = opening
    for value in values:
        # What is to be shared may not be written to.
        shared = path == ("force-share",) and value is True
        opening = plain.read_only() if shared else plain
        options = with_option(opening.options, path, value)
        asked = _Asked(show, opening, options)
        told = asked.added()
        if told is not None:
            why = told
            continue
        known = {**again(opening.options), "node-name": NODE}
        for how, given in (("same", with_option(known, path, value)), ("left out", known)):
            yield Trial(driver, option, value, how, *asked.reopened(given))
        if tried and isinstance(value, int) and not isinstance(value, bool):
            return  # two numbers are enough
        tried = True
    if not tried:
        yield Untried(driver, option, why)


def _of_children(types: Mapping[str, Any], driver: str, show: Show) -> Iterator[Trial]:
    """Options of every driver, given to a parent or to its child while the other is reopened."""
    opening = OPENINGS[driver]
    links = [key for key, value in opening.options.items() if isinstance(value, dict)]
    for choice in choices(types, driver):
        if choice.path[0] not in _GENERIC:
            continue
        for link in links:
            child = opening.options[link]
            for value in choice.values:
                options = with_option(opening.options, choice.path, value)
                asked = _Asked(show, opening, options)
                where = f"{choice.name} ({link})"
                if asked.added() is None:
                    yield Trial(driver, where, value, "child", *asked.reopened(child))
                own = {**opening.options, link: with_option(child, choice.path, value)}
                asked = _Asked(show, opening, own)
                if asked.added() is None:
                    known = {**again(opening.options), "node-name": NODE}
                    yield Trial(driver, where, value, "parent", *asked.reopened(known))


def _command(name: str, **arguments: Json) -> Command:
    return {"execute": name, "arguments": arguments}


def changes(before: Sequence[dict[str, Json]], after: Sequence[dict[str, Json]]) -> Iterator[str]:
    """What is shown otherwise than before, node by node."""
    new = {str(node.get("node-name")): node for node in after}
    old = {str(node.get("node-name")): node for node in before}
    for name in [*old, *(each for each in new if each not in old)]:
        known = name if name in {NODE, CHILD} or not name.startswith("#") else "(unnamed)"
        if name not in new or name not in old:
            yield f"{known} is {'gone' if name in old else 'new'}"
        else:
            yield from _differs(old[name], new[name], known)


def _differs(old: Json, new: Json, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(each for each in new if each not in old)]:
            if key != "actual-size" and not path.endswith("backing-image"):
                yield from _differs(old.get(key), new.get(key), f"{path}.{key}")
    elif old != new:
        yield f"{path}: {old} -> {new}"


@attrs.frozen
class Group:
    """Trials with the same outcome: which options (of which drivers), and one of the trials."""

    how: str
    outcome: str
    options: tuple[str, ...]
    example: Trial


def grouped(found: Sequence[Trial]) -> Iterator[Group]:
    """What did not stay as it was, by what was asked and what came of it."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for each in found:
        outcome = str(each.outcome)
        if each.outcome.refused or each.outcome.changes:
            groups.setdefault((each.how, outcome), []).append(each)
    for how in HOWS:
        for (asked, outcome), members in groups.items():
            if asked == how:
                drivers: dict[str, list[str]] = {}
                for each in members:
                    given = f"{each.option} {json.dumps(each.value)}"
                    drivers.setdefault(given, []).append(each.driver)
                told = (f"{given} ({', '.join(drivers[given])})" for given in drivers)
                yield Group(how, outcome, tuple(told), members[0])
