# SPDX-License-Identifier: GPL-2.0-or-later
"""Pools that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from targets.builds.binaries import find_daemon
from targets.daemons.pool import Pool
from targets.errors import TargetError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pool_needs_a_daemon(tmp_path: Path) -> None:
    program = tmp_path / "x"
    program.write_text("#!/bin/sh\necho qemu-storage-daemon version 7.2.22\n")
    program.chmod(0o755)
    build = find_daemon(str(program))
    with pytest.raises(TargetError, match="pool of 0"):
        Pool[int](build, 0)
