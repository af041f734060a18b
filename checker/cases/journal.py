# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run has found, on the disk from the first finding on, until somebody has read of it.

Each run that finds something has a journal of its own in ``journal/`` beside its cases: a line of
JSON that says which run it is, then one line for each case, each on the disk before anything
else is done with the finding. The run holds a lock on the file as long as it lives and removes it
when its results were told. A journal that nobody locks is therefore what a killed run has
left: the next one in the directory takes its findings over and reports them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from typing import TYPE_CHECKING

import attrs

from checker.cases.case import decode, encode, keep
from checker.errors import CaseError, CheckerError

if TYPE_CHECKING:
    from pathlib import Path

    from checker.cases.case import Case

FOLDER = "journal"
"""Where the journals are, beside the cases."""
_SUFFIX = ".jsonl"
_TRIES = 10


class JournalError(CheckerError):
    """A journal cannot be written: what is found from then on would not outlive the run."""


@attrs.frozen
class Left:
    """What a killed run has left: its command line, its cases, and how many lines made no sense.

    Each case comes with the path of its file, and is as it stands there.
    """

    found_by: str
    cases: tuple[tuple[Path, Case], ...]
    torn: int = 0


class Journal:
    """The journal of one run, and those that killed runs have left in the same directory."""

    def __init__(self, cases: Path, found_by: str) -> None:
        self._cases = cases
        self._folder = cases / FOLDER
        self._found_by = found_by
        self._path: Path | None = None
        self._file = -1

    def add(self, case: Case) -> None:
        """Put a case on the disk. Raises :class:`JournalError`."""
        line = json.dumps({"case": json.loads(encode(case))})
        try:
            if self._path is None:
                self._begin()
            self._append(line)
        except OSError as error:
            name = self._path or self._folder
            raise JournalError(f"cannot write {name}: {error.strerror or error}") from None

    def recover(self) -> tuple[Left, ...]:
        """Take over what killed runs have left: into this journal, and into the cases.

        Raises :class:`CheckerError` where that cannot be written; what was left stays there then.
        """
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            left = self._take_over(path)
            if left is not None and (left.cases or left.torn):
                found.append(left)
        return tuple(found)

    def end(self, *, told: bool) -> None:
        """The run is over; if somebody was ``told`` of it, the journal is of no use any more."""
        if self._path is not None:
            if told:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._path = None
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # unless there is a journal

    def _begin(self) -> None:
        for _ in range(_TRIES):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            try:
                file = os.open(path, flags, 0o666)
            except FileNotFoundError:
                continue  # another run has just removed the empty folder
            if _locked(file) and os.fstat(file).st_nlink:
                break
            os.close(file)  # another run took it for one that was left
        else:
            raise OSError(f"other processes keep removing the journals in {self._folder}")
        self._path, self._file = path, file
        self._append(json.dumps({"reopencheck-journal": 1, "found-by": self._found_by}))
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _append(self, line: str) -> None:
        """Write a line, whole or not at all."""
        length = os.fstat(self._file).st_size
        rest = line.encode() + b"\n"
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, length)
            raise

    def _take_over(self, path: Path) -> Left | None:
        """What one journal holds, unless its run is alive."""
        if path == self._path:
            return None
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror or error}") from None
        with os.fdopen(file, "rb") as stream:
            if not _locked(file) or not os.fstat(file).st_nlink:
                return None
            found_by, cases, torn = _read(stream.read())
            for case in cases:
                self.add(case)
            kept = tuple(keep(case, self._cases) for case in cases)
            path.unlink(missing_ok=True)
        return Left(found_by, kept, torn)


def _locked(file: int) -> bool:
    """Lock a file for as long as it is open, if nobody else does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(data: bytes) -> tuple[str, tuple[Case, ...], int]:
    """The members of :class:`Left`, from a journal's lines.

    The last line may be torn: the run was killed while it wrote.
    """
    cases: dict[str, Case] = {}
    found_by, torn = "", 0
    for line in data.splitlines():
        try:
            entry = json.loads(line)
            if "case" in entry:
                case = decode(json.dumps(entry["case"]).encode())
                cases[case.signature] = case  # a later one is the reduced form
            else:
                found_by = str(entry["found-by"])
        except (ValueError, TypeError, KeyError, RecursionError, CaseError):
            torn += 1
    return found_by, tuple(cases.values()), torn
