# SPDX-License-Identifier: GPL-2.0-or-later
"""What every kind of block job can say of itself and do, and the table of the kinds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.graph.transition import Transition
    from model.values.state import Job


class Rest(Enum):
    """How a job comes to rest when it has run."""

    READY = "ready"
    """It keeps two images equal until it is told to end."""
    WORKING = "working"
    """It waits for something that only others can do."""
    SLEEPING = "sleeping"
    """It is limited to a rate, and will not go on for hours."""
    DONE = "done"
    """It has finished, or failed with the job's ``error``."""


class JobKind(ABC):
    """A kind of block job. Instances hold no state: jobs do."""

    type: str
    can_complete = False
    command: str
    """The command that starts such jobs."""
    keeps_pace = False
    """Whether it is known how a job of the kind sleeps when it has a speed."""

    @abstractmethod
    def run(self, t: Transition, job: Job) -> Rest:
        """Go on with the work, as far as it goes. May change the job by :func:`change`."""

    def details(self, job: Job) -> dict[str, Any]:
        """What a query shows of such jobs only."""
        return {}

    def prepare(self, t: Transition, job: Job) -> str | None:
        """Change the graph when the work is done; returns an error's text if that fails."""
        return None

    def abort(self, t: Transition, job: Job) -> None:
        """Put the graph back when the job has failed or was cancelled."""

    def clean(self, t: Transition, job: Job) -> None:
        """Let go of what the job has, however it ended."""

    def complete(self, t: Transition, job: Job) -> None:
        """Prepare to end; may refuse."""

    def lags(self, t: Transition, job: Job) -> bool:
        """Whether something was written that a job which keeps images equal has not copied yet."""
        return False

    def drains(self, t: Transition, job: Job) -> str | None:
        """The node whose users have to wait until the job lets them go on, if there is one."""
        return None

    def must_force(self, job: Job, *, force: bool) -> bool:
        """Whether a request to cancel means that the work is left unfinished."""
        return True


KINDS: dict[str, JobKind] = {}
"""Kinds of jobs by what they call themselves; filled when :mod:`model.jobs` is imported."""
