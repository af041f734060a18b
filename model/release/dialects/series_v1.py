# SPDX-License-Identifier: GPL-2.0-or-later
"""The series "Add a 'x-blockdev-reopen' QMP command", as posted in January 2019.

What its letter and the discussion do not say is taken from 5.2, the first release with a
dialect, in which all of the series is. See docs/series for each of the thirteen patches.
"""

from __future__ import annotations

from model.release.dialects.qemu_5_2 import QEMU_5_2

SERIES_V1 = QEMU_5_2.derive("series-v1", gains=("reopen.same-context",))
