# SPDX-License-Identifier: GPL-2.0-or-later
"""The dialects that there are, each in a module that says only how it differs."""

from __future__ import annotations

from model.release.dialect import WITHOUT, Dialect, NoSuchDialectError
from model.release.dialects.proposals import (
    FREEZE_COUNTER,
    NULL_RESETS,
    OMISSION_KEEPS,
    OMITTED_DETACHES,
)
from model.release.dialects.qemu_5_2 import QEMU_5_2
from model.release.dialects.qemu_7_2 import QEMU_7_2
from model.release.dialects.qemu_10_0 import QEMU_10_0
from model.release.dialects.qemu_11_1 import QEMU_11_1
from model.release.dialects.qemu_system_7_2 import QEMU_SYSTEM_7_2
from model.release.dialects.series_v1 import SERIES_V1
from model.values.programs import STORAGE_DAEMON, Program

__all__ = [
    "DIALECTS",
    "PROPOSALS",
    "QEMU_5_2",
    "QEMU_7_2",
    "QEMU_10_0",
    "QEMU_11_1",
    "QEMU_SYSTEM_7_2",
    "SERIES_V1",
    "find_dialect",
    "nearest_dialect",
]

DIALECTS: dict[str, Dialect] = {
    d.name: d for d in (QEMU_5_2, QEMU_7_2, QEMU_10_0, QEMU_11_1, QEMU_SYSTEM_7_2)
}

PROPOSALS: dict[str, Dialect] = {
    d.name: d for d in (SERIES_V1, NULL_RESETS, OMISSION_KEEPS, OMITTED_DETACHES, FREEZE_COUNTER)
}
"""What was put forward in January 2019, the series itself first. No build does just so."""


def find_dialect(name: str) -> Dialect:
    """The dialect called ``name``; :class:`NoSuchDialectError` lists those there are.

    ``NAME without RULE, RULE`` is one that lacks some of its rules.
    """
    base, _, lacks = name.partition(WITHOUT)
    try:
        dialect = {**DIALECTS, **PROPOSALS}[base]
    except KeyError:
        names = ", ".join([*sorted(DIALECTS), *sorted(PROPOSALS)])
        raise NoSuchDialectError(f"no dialect is called {base!r}; there are: {names}") from None
    return dialect.without(*lacks.replace(",", " ").split()) if lacks else dialect


def nearest_dialect(release: tuple[int, int], program: Program = STORAGE_DAEMON) -> Dialect:
    """A program's dialect of the newest release not after ``release``, else of the oldest one."""
    its = [d for d in DIALECTS.values() if d.program == program]
    by_release = sorted(its, key=lambda d: d.release)
    earlier = [d for d in by_release if d.release <= release]
    return earlier[-1] if earlier else by_release[0]
