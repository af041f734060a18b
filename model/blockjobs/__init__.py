# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of block jobs: for each its command, what it does, and what it leaves behind."""

from __future__ import annotations

from model.blockjobs.backup import BackupKind
from model.blockjobs.commit import Commit
from model.blockjobs.mirror import ActiveCommitKind, MirrorKind
from model.blockjobs.stream import Stream
from model.graph.job_kind import KINDS

KINDS["backup"] = BackupKind()
KINDS["commit"] = Commit()
KINDS["commit-active"] = ActiveCommitKind()
KINDS["mirror"] = MirrorKind()
KINDS["stream"] = Stream()
