# SPDX-License-Identifier: GPL-2.0-or-later
"""The two sides of a difference run, opened together: the model and real daemons."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from checker.diff import Sides
from checker.judge import Example
from checker.oracle import oracle
from targets.binaries import Build, find_qemu_img, find_qemu_io
from targets.pool import Pool, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.release.dialect import Dialect


@contextmanager
def open_sides(build: Build, dialect: Dialect) -> Iterator[Sides]:
    """The model in a dialect beside daemons of a build; no process is left afterwards.

    Raises TargetError at once when there is no ``qemu-img`` or ``qemu-io``, or when the daemon
    does not start.
    """
    find_qemu_img(walls=build.walls)
    find_qemu_io(walls=build.walls)
    with Pool[Example](build) as pool, Target(build) as target:
        _ = target.daemon  # a daemon that does not start is told before the run, not in it
        yield Sides(oracle(dialect), pool, target.run, target.confirm)


def with_oracle(sides: Sides, dialect: Dialect) -> Sides:
    """The same daemons beside the model in another dialect."""
    return attrs.evolve(sides, oracle=oracle(dialect))
