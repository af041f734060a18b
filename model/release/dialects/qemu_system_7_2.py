# SPDX-License-Identifier: GPL-2.0-or-later
"""The system emulator of QEMU 7.2: a machine that is stopped, beside the same block layer."""

from __future__ import annotations

from model.release.dialects.qemu_7_2 import DEVICES, QEMU_7_2
from model.values.programs import EMULATOR

QEMU_SYSTEM_7_2 = QEMU_7_2.derive("qemu-system-7.2", program=EMULATOR, gains=DEVICES)
