# SPDX-License-Identifier: GPL-2.0-or-later
"""Every dialect beside the release that it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

import model.release.schemas
from model.release.dialects import DIALECTS
from targets.schema_import import import_schema, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.release.dialect import Dialect
    from targets.binaries import Build

    BuildOf: TypeAlias = Callable[[Dialect], Build]

SCHEMAS = Path(model.schemas.__file__).parent


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda each: each.name)
def test_the_schema_is_what_the_release_says(dialect: Dialect, build_of: BuildOf) -> None:
    """But for the point release, which a distribution raises without changing a type."""
    build = build_of(dialect)
    document = import_schema(build.argv, build.program)
    document["release"] = dialect.schema.release
    packaged = (SCHEMAS / f"{dialect.schema_name}.json").read_text(encoding="utf-8")
    assert render(document) == packaged
