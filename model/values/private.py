# SPDX-License-Identifier: GPL-2.0-or-later
"""What drivers remember of a node besides its options: the values of `Node.private`.

Each says something that a real QEMU keeps and does not derive, where a client can see it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from model.values.image_layout import CLUSTER

if TYPE_CHECKING:
    from model.values.state import FrozenDict


@attrs.frozen
class Qcow2State:
    """What the node remembers of its ``image``, a file's name: its L1 table's size, and L2 tables.

    No ``image`` is one of which the node did not see all when it was opened.

    ``l2_entry`` bytes of an L2 table are written at a time. From the cluster ``search`` on it
    looks for free ones. With ``lazy`` refcounts it makes the image ``dirty`` before it allocates.
    Another node on the same image (locking can be turned off) does not know; ``written`` says
    that there is something to know. ``cached`` says that there are tables in a cache that have
    changed since they were written down. It is ``sweeping`` if it was reopened in an iothread, and
    so began there to look through its caches from time to time. It ``keeps`` places in the image
    whose clusters are discarded.
    """

    image: str
    l1_entries: int
    l2_tables: FrozenDict[int, int]
    l2_entry: int = CLUSTER
    search: int = 0
    lazy: bool = False
    dirty: bool = False
    written: bool = False
    cached: bool = False
    sweeping: bool = False
    keeps: bool = False


@attrs.frozen
class RawState:
    """The window of the file that the node shows; ``size`` None goes to its end."""

    offset: int = 0
    size: int | None = None
    gives_back: bool = True
    """Whether it asks for writes and resizes of the file only where a user does."""


@attrs.frozen
class FileState:
    """Whether the node locks its file, and how the file is really open.

    ``forgotten`` says that QEMU takes the descriptor for a read-only one without direct access.
    ``alignment`` of requests is in bytes. ``data`` is where the file was last found to have data,
    (0, 0) if nowhere.
    """

    locking: bool
    direct: bool = False
    writes: bool = False
    forgotten: bool = False
    alignment: int = 1
    data: tuple[int, int] = (0, 0)
    aligns: bool | None = None
    """Whether requests are aligned in spite of what the node says by now; None: it is asked."""
    copied: tuple[int, int] | None = None
    """What the descriptor has locked, as (required, shared), though the node does not lock."""


@attrs.frozen
class QuorumState:
    """``members`` are the child names in the order of voting; ``next_index`` names the next.

    With ``fifo`` nobody votes: the first child is read.
    """

    threshold: int
    blkverify: bool
    rewrite: bool
    members: tuple[str, ...]
    next_index: int
    fifo: bool = False


@attrs.frozen
class Bottom:
    """The node down to which a copy-on-read filter reads, and which it keeps alive.

    ``frozen``: the filter has frozen the chain down to there.
    """

    node: str
    frozen: bool = True


@attrs.frozen
class PreallocateState:
    """``align`` and ``size`` are the options, in bytes.

    While the node may write and resize its file, it remembers where the data ends and
    where the file does; otherwise both are None, and the file is asked. Where the file could not
    be cut, its end alone is None. ``alone``: it requires to be the only one who writes and
    resizes, even if nobody requires that of the node itself.
    """

    align: int
    size: int
    data_end: int | None = None
    file_end: int | None = None
    alone: bool = False


@attrs.frozen
class DebugState:
    """What a blkdebug node adds to and takes from the permissions of its child."""

    take: int = 0
    unshare: int = 0
    align: int = 0


@attrs.frozen
class MirrorTopState:
    """``commit``: the target lies below. ``stopped``: the job needs the filter no more."""

    commit: bool
    stopped: bool = False
    passes_on: bool = True
    """Whether all that its users require and share is passed on, or only what they write."""


@attrs.frozen
class CopyBeforeWriteState:
    """``cluster`` is the size of the pieces that are copied, in bytes.

    ``noted`` is the node that the bitmap is on which says what is still to be copied: the one that
    was filtered when the filter was made, or the filter. ``reads``: it reads what it filters though
    nobody may write to it.
    """

    cluster: int
    noted: str
    reads: bool


@attrs.frozen
class BackupTopState(CopyBeforeWriteState):
    """``active``: the filter is in its place and asks for what it needs."""

    active: bool = False
