# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dialect of the model a build is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.release.dialects import nearest_dialect

if TYPE_CHECKING:
    from model.release.dialect import Dialect
    from targets.builds.binaries import Build


def parse_release(release: str) -> tuple[int, int]:
    """``7.2.22`` or ``7.2`` as (7, 2)."""
    major, minor, *_ = (*release.split("."), "0")
    return (int(major), int(minor))


def dialect_for(build: Build) -> tuple[Dialect, str]:
    """The dialect for a build, and a note if it is that of another release."""
    release = parse_release(build.release)
    dialect = nearest_dialect(release, build.program)
    if dialect.release == release:
        return dialect, ""
    return dialect, (
        f"release {build.version} has no dialect of its own; compared with the nearest,"
        f" {dialect.name}"
    )
