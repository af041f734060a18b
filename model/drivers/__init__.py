# SPDX-License-Identifier: GPL-2.0-or-later
"""The block drivers that the spec knows: options, children, permissions and lengths of each."""

from __future__ import annotations

from model.drivers.backup_top import BackupTop
from model.drivers.blkdebug import Blkdebug
from model.drivers.blkverify import Blkverify
from model.drivers.commit_top import CommitTop
from model.drivers.compress import Compress
from model.drivers.copy_before_write import CopyBeforeWrite
from model.drivers.copy_on_read import CopyOnRead
from model.drivers.file import File
from model.drivers.mirror_top import MirrorTop
from model.drivers.null import Null
from model.drivers.preallocate import Preallocate
from model.drivers.qcow2 import Qcow2
from model.drivers.quorum import Quorum
from model.drivers.raw import Raw
from model.drivers.throttle import Throttle
from model.graph.driver import DRIVERS, Driver, driver_of, register

__all__ = ["DRIVERS", "DRIVER_SCOPES", "Driver", "driver_of"]

for _driver in (
    BackupTop(),
    Blkdebug(),
    Blkverify(),
    CommitTop(),
    Compress(),
    CopyBeforeWrite(),
    CopyOnRead(),
    File(),
    MirrorTop(),
    Null("null-aio"),
    Null("null-co"),
    Preallocate(),
    Qcow2(),
    Quorum(),
    Raw(),
    Throttle(),
):
    register(_driver)

DRIVER_SCOPES = {name: driver.scope for name, driver in DRIVERS.items()}
"""What each of them does with its options."""
