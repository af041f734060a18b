# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests that need a real storage daemon share. Without one they fail: never skip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from targets.binaries import Build, find_daemon
from targets.daemon import StorageDaemon
from targets.images import ImageStore
from targets.pool import Target

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder, so that no module can forget it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def build() -> Build:
    return find_daemon("qemu-storage-daemon")


@pytest.fixture(scope="session")
def images() -> ImageStore:
    return ImageStore()


@pytest.fixture
def daemon(build: Build, tmp_path: Path) -> Iterator[StorageDaemon]:
    with StorageDaemon(build, tmp_path) as running:
        yield running


@pytest.fixture
def target(build: Build, images: ImageStore, tmp_path: Path) -> Iterator[Target]:
    with Target(build, parent=tmp_path, images=images) as ready:
        yield ready
