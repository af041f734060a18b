# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from checker.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all; makes its directory.

    :class:`CaseError` says in one line why it cannot be (a full disk, no permission).
    """
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files so that all of them are there, whole, or none; makes their directories.

    They get their names in the given order, when the last byte of the last one is on the disk.
    :class:`CaseError` as for :func:`write_atomically`.
    """
    partials: dict[Path, Path] = {}
    # mkstemp makes files that only their owner reads; results are for others too.
    umask = os.umask(0)
    os.umask(umask)
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
            partials[path] = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            partials[path].chmod(0o666 & ~umask)
        for path in files:
            partials[path].replace(path)
            del partials[path]
    except OSError as error:
        raise CaseError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        for partial in partials.values():
            with contextlib.suppress(OSError):
                partial.unlink()
