# SPDX-License-Identifier: GPL-2.0-or-later
"""What traces show on builds, with one target for each build and no replay made twice."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from checker.judge import Verdict, judge
from model.data.requests import NO_GUEST
from targets.closing import Closing
from targets.pool import Target

if TYPE_CHECKING:
    from checker.judge import Example
    from model.values.trace import Trace
    from targets.binaries import Build
    from targets.images import ImageStore
    from targets.replay import Replay

HANGS_AFTER = 2.0
"""Seconds without an answer that are a hang, where one is foreseen."""


class Replays(Closing):
    """Runs traces for all tests of a session; a context manager."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self._targets: dict[Build, Target] = {}
        self._seen: dict[tuple[Build, str], Replay] = {}
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def target(self, build: Build) -> Target:
        """The target of a build, which is kept for the whole session."""
        if build not in self._targets:
            target = Target(build, images=self._images)
            self._targets[build] = self._stack.enter_context(target)
        return self._targets[build]

    def replay(self, build: Build, trace: Trace) -> Replay:
        """What a trace shows on a build, perhaps as it did for another test."""
        key = build, repr((trace.images, trace.commands))
        if key not in self._seen:
            self._seen[key] = self.target(build).run(trace)
        return self._seen[key]

    def verdict(self, build: Build, example: Example) -> Verdict | None:
        """What a build makes of an example: None where it does as the model says.

        As the checker finds out: a difference counts when a fresh process shows it, too. Where
        the model foresees a defect, or a guest that waits for ever, there is nothing to find out
        first. The trace is run on a fresh process with one command at a time, which is what decides
        where that is lost.
        """
        if any(step.hazards or NO_GUEST.id in step.refused for step in example.expectations):
            with Target(build, images=self._images, timeout=HANGS_AFTER) as target:
                return judge(example, target.run(example.trace, lockstep=True))
        if judge(example, self.replay(build, example.trace)) is None:
            return None
        return judge(example, self.target(build).confirm(example.trace))
