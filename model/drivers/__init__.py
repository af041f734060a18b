# SPDX-License-Identifier: GPL-2.0-or-later
"""The block drivers that the spec knows, one table of facts each."""

from __future__ import annotations

from model.drivers.backup_top import BackupTop
from model.drivers.files import File, Null
from model.drivers.filters import Blkdebug, Compress, CopyOnRead, Preallocate, Throttle
from model.drivers.formats import Qcow2, Raw
from model.drivers.job_filters import CommitTop
from model.drivers.mirror_filters import CopyBeforeWrite, MirrorTop
from model.drivers.several import Blkverify, Quorum
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
