# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of a release that have its block layer and a monitor, and how each is started."""

from __future__ import annotations

import attrs


@attrs.frozen
class Program:
    """``name`` is what we call it, ``binary`` its file, ``tool`` its name in its --version.

    ``options`` are always given, ``monitor`` puts a QMP monitor on the character device ``m``.
    """

    name: str
    binary: str
    tool: str
    monitor: tuple[str, ...]
    options: tuple[str, ...] = ()

    def arguments(self, chardev: str) -> tuple[str, ...]:
        """What is put behind the binary to start it with its monitor on ``chardev``."""
        return (*self.options, "--chardev", f"{chardev},id=m", *self.monitor)


STORAGE_DAEMON = Program(
    "storage daemon",
    "qemu-storage-daemon",
    "qemu-storage-daemon",
    ("--monitor", "chardev=m"),
)

# The machine never runs, so there is no guest. Its root bus takes devices at run time, as that
# of `q35` does not, and `none` has no bus.
EMULATOR = Program(
    "system emulator",
    "qemu-system-x86_64",
    "QEMU emulator",
    ("--mon", "chardev=m,mode=control"),
    ("-machine", "pc", "-S", "-nodefaults", "-no-user-config", "-display", "none"),
)

PROGRAMS = (STORAGE_DAEMON, EMULATOR)
