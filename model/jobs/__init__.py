# SPDX-License-Identifier: GPL-2.0-or-later
"""The kinds of block jobs: for each its command, what it does, and what it leaves behind."""

from __future__ import annotations

from model.graph.job_kind import KINDS
from model.jobs.backup import BackupKind
from model.jobs.commit import Commit
from model.jobs.mirror import ActiveCommitKind, MirrorKind
from model.jobs.stream import Stream

KINDS["backup"] = BackupKind()
KINDS["commit"] = Commit()
KINDS["commit-active"] = ActiveCommitKind()
KINDS["mirror"] = MirrorKind()
KINDS["stream"] = Stream()
