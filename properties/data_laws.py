# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds from one state to the next of what guests read.

Nothing is said of images that several nodes have open: one changes them behind the other's back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model.commands import guest
from model.data.image_access import content
from model.graph.transition import Transition
from model.graph.traversal import length_of, reaches
from model.jobs import commit, mirror_copy, stream
from model.release.rules import NotModelledError
from model.values.image_layout import ImageError
from model.values.state import Use
from model.values.trace import REOPENS, WRITE
from properties.claims import living
from properties.job_laws import verb_of
from properties.laws import STARTS, accepted

if TYPE_CHECKING:
    from model import BlockState, Dialect, Outcome
    from model.values.state import Image, Job, Node
    from model.values.trace import Command

    Runs = list[tuple[int, int, int]]

_MOST_BYTES: Final = 8 << 20
_CHANGES_DATA: Final = ("reopencheck-write", "block_resize", "blockdev-snapshot")
_LEAKY: Final = frozenset({"null-co", "null-aio", "blkdebug", "quorum", "blkverify", "raw"})
"""Drivers below which there is not all that was written, or not at its place."""


class Reader:
    """What guests read in one state."""

    __slots__ = ("_dialect", "_known", "_t", "state")

    def __init__(self, state: BlockState, dialect: Dialect) -> None:
        self.state = state
        self._dialect = dialect
        self._t = Transition(state, dialect.evaluation())
        self._known: dict[str, Runs | None] = {}

    def runs(self, name: str) -> Runs | None:
        """What is read through a node; None where nobody knows, or it would take long."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def length(self, name: str) -> int:
        """The length of a node in bytes."""
        return length_of(self._t, name)

    def _read(self, name: str) -> Runs | None:
        if name not in self.state.nodes or not self.alone(name):
            return None
        length = length_of(self._t, name)
        if length > _MOST_BYTES:
            return None
        # Reading may copy, and what another node has copied is nothing that was there before.
        t = Transition(self.state, self._dialect.evaluation())
        try:
            return guest.runs(t, name, 0, length)
        except (ImageError, NotModelledError):
            return None

    def image(self, name: str) -> Image | None:
        """The image behind a qcow2 node, if all of it is there."""
        link = self.state.nodes[name].link("file")
        return content(self._t, link.child) if link else None

    def alone(self, *names: str) -> bool:
        """Whether no image below these nodes is open a second time."""
        files = [node.filename for node in self.below(*names) if node.filename]
        opened = [node.filename for node in self.state.nodes.values()]
        return all(opened.count(name) == 1 for name in files)

    def below(self, *names: str) -> list[Node]:
        """These nodes and all below them."""
        found: dict[str, Node] = {}
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in found and name in self.state.nodes:
                found[name] = self.state.nodes[name]
                stack.extend(link.child for link in found[name].children)
        return list(found.values())


def _edges(state: BlockState) -> list[tuple[str, str, str]]:
    return sorted((link.parent, link.name, link.child) for link in state.links())


def reopening_options_keeps_what_is_read(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """A reopen that changes no links changes nothing of what any node reads, but for windows."""
    after = outcome.state
    if not accepted(command, outcome, *REOPENS) or after is before:
        return None
    if after.images is before.images or _edges(before) != _edges(after):
        # What is read follows from the links and from what the images hold.
        return None
    was, now = Reader(before, dialect), Reader(after, dialect)
    for name, node in before.nodes.items():
        if node.driver == "raw" or any(x.driver == "raw" for x in was.below(name)):
            continue
        old, new = was.runs(name), now.runs(name)
        if old is not None and new is not None and old != new:
            return f"{name!r} reads otherwise than before"
    return None


def another_backing_file_shows_where_nothing_is_allocated(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """Of an image with another backing file, what it has itself stays; the rest is the new one's.

    Behind the end of a shorter backing file there are zeroes.
    """
    if not accepted(command, outcome, *REOPENS):
        return None
    was, now = Reader(before, dialect), Reader(outcome.state, dialect)
    for name, old in before.nodes.items():
        new = outcome.state.nodes.get(name)
        if new is None or new.driver != "qcow2" or new.children is old.children:
            continue
        if backing(old) == backing(new) or _file(old) != _file(new):
            continue
        wrong = _against_rule(was, now, name)
        if wrong:
            return wrong
    return None


def backing(node: Node) -> str | None:
    """The backing file of a node."""
    link = node.link("backing")
    return link.child if link else None


def _file(node: Node) -> str | None:
    link = node.link("file")
    return link.child if link else None


def _against_rule(was: Reader, now: Reader, name: str) -> str | None:
    old, new = was.runs(name), now.runs(name)
    image = was.image(name)
    child = backing(now.state.nodes[name])
    below = now.runs(child) if child else []
    if old is None or new is None or image is None or below is None:
        return None
    own = [(s, e) for s, e, _ in image.extents]
    length = now.length(name)
    for start, end in own:
        if _cut(old, start, min(end, length)) != _cut(new, start, min(end, length)):
            return f"{name!r} lost what it had itself"
    for start, end in _gaps(own, length):
        if _cut(new, start, end) != _cut(below, start, end):
            return f"{name!r} does not show its new backing file"
    return None


def _gaps(ranges: list[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    gaps = []
    at = 0
    for s, e in ranges:
        if at < min(s, end):
            gaps.append((at, min(s, end)))
        at = max(at, e)
    return [*gaps, (at, end)] if at < end else gaps


def _cut(runs: Runs, start: int, end: int) -> Runs:
    return [(max(s, start), min(e, end), v) for s, e, v in runs if s < end and e > start]


def jobs_keep_what_their_users_see(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """Whatever jobs copy and put in each other's place, what is read above them stays."""
    after = outcome.state
    active = _active(outcome)
    if command.get("execute") in _CHANGES_DATA or not active:
        return None
    if after.images is before.images and _edges(before) == _edges(after):
        return None
    was, now = Reader(before, dialect), Reader(after, dialect)
    for job_id in active:
        job = before.jobs.get(job_id)
        one, other = _seen(before, command, outcome, job) if job else _device(command)
        if one not in before.nodes or other not in after.nodes:
            continue
        if _leaks(was, one) or _leaks(now, other) or _hides(was, one):
            continue
        # An image that was committed to may be longer.
        end = min(was.length(one), now.length(other))
        old, new = was.runs(one), now.runs(other)
        if old is None or new is None or _cut(old, 0, end) == _cut(new, 0, end):
            continue
        if not _written_behind(was, job):
            return f"{other!r} does not read as {one!r} did before job {job_id!r} went on"
    return None


def _written_behind(reader: Reader, job: Job | None) -> bool:
    """Whether somebody wrote to a mirror's target, or to its source where it does not see that.

    Then the two sides differ where nothing is noted down to be copied.
    """
    body = job.body if job else None
    if not isinstance(body, mirror_copy.Mirror) or body.filter not in reader.state.nodes:
        return False
    one, other = reader.runs(body.filter), reader.runs(body.target)
    if job is None or one is None or other is None:
        return False
    beside = [body.filter, *(link.child for link in reader.state.nodes[body.filter].children)]
    noted = [b for x in beside for b in reader.state.nodes[x].bitmaps if b.owner == job.user]
    dirty = [(s, e) for bitmap in noted for s, e in bitmap.dirty]
    return any(
        _cut(one, s, e) != _cut(other, s, e) for s, e in _gaps(dirty, reader.length(body.filter))
    )


def _active(outcome: Outcome) -> list[str]:
    """The jobs that went on, and those of which clients heard."""
    heard = [e["data"]["id"] for e in outcome.events if e["event"] == "JOB_STATUS_CHANGE"]
    return list(dict.fromkeys([*outcome.settling, *heard]))


def _device(command: Command) -> tuple[str, str]:
    device = str(command.get("arguments", {}).get("device"))
    return device, device


def _leaks(reader: Reader, name: str) -> bool:
    return any(node.driver in _LEAKY for node in reader.below(name))


def _hides(reader: Reader, name: str) -> bool:
    """Whether an image in a chain is shorter than what lies below: without it more is seen."""
    return any(
        reader.length(node.name) < reader.length(child)
        for node in reader.below(name)
        if node.name != name and (child := backing(node)) is not None
    )


def _seen(before: BlockState, command: Command, outcome: Outcome, job: Job) -> tuple[str, str]:
    """What a job's users saw, and what they are to see now."""
    body = job.body
    if isinstance(body, commit.Body):
        device = dict(before.users[job.user].links).get("main node", body.filter)
        return device, device
    if isinstance(body, stream.Body):
        return body.target, body.target
    if not isinstance(body, mirror_copy.Mirror) or body.filter not in before.nodes:
        return "", ""
    pivoted = pivots(before, command, outcome, job)
    if pivoted and not everything(job):
        return "", ""
    if body.filter in outcome.state.nodes:
        return body.filter, body.filter
    below = before.nodes[body.filter].link("backing")
    origin = below.child if below else ""
    return origin, body.target if pivoted else origin


def pivots(before: BlockState, command: Command, outcome: Outcome, job: Job) -> bool:
    """Whether a mirror ends in this step by putting its target in the place of its source."""
    asked = verb_of(command)
    complete = job.complete or (asked is not None and asked[0] == "complete")
    return complete and any(
        event["event"] == "BLOCK_JOB_COMPLETED"
        and event["data"]["device"] == job.id
        and "error" not in event["data"]
        for event in outcome.events
    )


def everything(job: Job) -> bool:
    """Whether a mirror copies all that is read from its source, wherever that comes from."""
    body = job.body
    return isinstance(body, mirror_copy.Mirror) and (
        job.type == "commit-active" or (body.fresh and not body.nothing and body.base is None)
    )


def _others_may_write(state: BlockState, reader: Reader, body: mirror_copy.Mirror) -> bool:
    """Whether a guest could write to a mirror's target but through the mirror."""
    source = [node.name for node in reader.below(body.filter)]
    return any(
        key[0] not in source and not state.nodes[key[0]].read_only
        for key in state.nodes[body.target].parents
        if not isinstance(key, Use)
    )


def mirrors_are_equal_when_they_become_ready(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """A mirror of everything that has become ready has the same bytes on both sides.

    Unless the target became shorter, so that the next write fails, or somebody else writes to it.
    Later on a reopen may show the source another backing file, which is nothing that was written.
    """
    state = outcome.state
    for job in living(state):
        body = job.body
        was = before.jobs.get(job.id)
        if job.status != "ready" or not isinstance(body, mirror_copy.Mirror):
            continue
        if was is not None and was.status in ("ready", "standby"):
            continue
        reader = Reader(state, dialect)
        if not everything(job) or _leaks(reader, body.filter) or _leaks(reader, body.target):
            continue
        one, other = reader.runs(body.filter), reader.runs(body.target)
        end = reader.length(body.filter)
        if end > reader.length(body.target) or _others_may_write(state, reader, body):
            continue
        if one is not None and other is not None and _cut(one, 0, end) != _cut(other, 0, end):
            return f"job {job.id!r} is ready and its images differ"
    return None


def mirrors_copy_or_note_what_is_written(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """What a guest writes through the filter of a mirror is on both sides, or noted down."""
    if not accepted(command, outcome, WRITE):
        return None
    was, now = Reader(before, dialect), Reader(outcome.state, dialect)
    for job in living(outcome.state):
        body, old = job.body, before.jobs.get(job.id)
        if old is None or not isinstance(body, mirror_copy.Mirror) or not everything(job):
            continue
        if body.filter not in before.nodes or not old.body.begun:
            continue
        if not reaches(before.nodes, command["arguments"]["node"], body.filter):
            continue
        if _leaks(now, body.filter) or _leaks(now, body.target):
            continue
        if not _written_behind(was, old) and _written_behind(now, job):
            return f"job {job.id!r} does not know what was written through its filter"
    return None


def refused_commands_keep_what_is_read(
    before: BlockState, command: Command, outcome: Outcome, dialect: Dialect
) -> str | None:
    """An error changes nothing of what any node reads, whatever was copied to read it."""
    after = outcome.state
    if outcome.ok or after.images is before.images or command.get("execute") in STARTS:
        return None
    was, now = Reader(before, dialect), Reader(after, dialect)
    for name in before.nodes:
        old, new = was.runs(name), now.runs(name)
        if old is not None and new is not None and old != new:
            return f"{name!r} reads otherwise than before"
    return None


DATA_LAWS = (
    reopening_options_keeps_what_is_read,
    another_backing_file_shows_where_nothing_is_allocated,
    jobs_keep_what_their_users_see,
    mirrors_are_equal_when_they_become_ready,
    mirrors_copy_or_note_what_is_written,
    refused_commands_keep_what_is_read,
)
"""The laws on what guests read."""
