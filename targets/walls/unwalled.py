# SPDX-License-Identifier: GPL-2.0-or-later
"""Running a program of the system itself, outside of all walls."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from targets.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run_unwalled(
    argv: Sequence[str], within: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with nothing to read, and return what it prints as text.

    It gets so many seconds, and our own environment unless another is given. Raises TargetError,
    in a few words, where it cannot be started or does not end; what else it does wrong is in its
    status.
    """
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise TargetError(f"{argv[0]} did not end within {within:.0f} s") from None
    except OSError as error:
        raise TargetError(error.strerror or str(error)) from None
