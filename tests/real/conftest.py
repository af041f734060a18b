# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests that need a real daemon share: QEMU's storage daemon and system emulator.

Without them they fail: never skip. Builds of other releases than the system's own come by
``reopencheck qemu install 5.2 10.0 11.1``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from model.values.programs import STORAGE_DAEMON
from targets.binaries import Build, find_daemon, find_driven
from targets.daemon import Daemon
from targets.debian import find_build
from targets.images import ImageStore
from targets.pool import Target
from tests.real.replays import Replays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from model.release.dialect import Dialect


@pytest.fixture(scope="session")
def build() -> Build:
    return find_daemon("qemu-storage-daemon")


@pytest.fixture(scope="session")
def build_of() -> Callable[[Dialect], Build]:
    """Find the build of a dialect's release: the system's own, or one that was installed."""
    found: dict[str, Build] = {}

    def find(dialect: Dialect) -> Build:
        release = ".".join(map(str, dialect.release))
        own = find_driven(dialect.program.binary)
        if own.release == release:
            return own
        assert dialect.program is STORAGE_DAEMON, f"no {dialect.program.name} of {release}"
        if release not in found:
            found[release] = find_build(release)
        return found[release]

    return find


@pytest.fixture(scope="session")
def images() -> ImageStore:
    return ImageStore()


@pytest.fixture(scope="session")
def replays(images: ImageStore) -> Iterator[Replays]:
    """A target for each build, which all tests share."""
    with Replays(images) as shared:
        yield shared


@pytest.fixture
def shared(replays: Replays, build: Build) -> Target:
    """The storage daemon of the system as all tests share it: it resets itself between traces."""
    return replays.target(build)


@pytest.fixture
def daemon(build: Build, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(build, tmp_path) as running:
        yield running


@pytest.fixture
def target(build: Build, images: ImageStore, tmp_path: Path) -> Iterator[Target]:
    with Target(build, parent=tmp_path, images=images) as ready:
        yield ready
