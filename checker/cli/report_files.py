# SPDX-License-Identifier: GPL-2.0-or-later
"""Writing reports: the summary, JUnit XML and a script for each finding, into one directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checker.cases.case import file_name
from checker.cases.files import write_all
from checker.errors import CaseError, OutputError
from reports import junit, markdown, script

if TYPE_CHECKING:
    from pathlib import Path

    from reports.values import Summary


def check_directory(path: Path) -> None:
    """Make a directory for results and see that files can be made in it.

    Called before a run, so that an hour's findings are not lost at its end. Raises
    :class:`OutputError`.
    """
    probe = path / ".reopencheck-probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from None


def write_report(summary: Summary, directory: Path) -> tuple[Path, ...]:
    """Write ``summary.md``, ``junit.xml`` and ``*.sh`` for each finding; returns their paths.

    All of them, or none where one cannot be written; the summary last, so that what it names is
    there. Raises :class:`OutputError` then, and where a script could not be made, after the others.
    """
    files: dict[Path, bytes] = {}
    scripts: dict[str, str] = {}
    problems: list[str] = []
    for finding in (*summary.findings, *summary.recovered):
        if finding.kind == "property":
            continue  # the model broke its own law: there is no daemon to show it on
        name = file_name(finding.kind, finding.dialect, finding.signature)
        name = f"{name.removesuffix('.json')}.sh"
        try:
            text = script.render(finding, name)
        except Exception as error:  # noqa: BLE001  # one finding must not take the report with it
            problems.append(f"no script {name}: {type(error).__name__}: {error}")
            continue
        scripts[finding.signature] = name
        files[directory / name] = text.encode(errors="replace")
    files[directory / "junit.xml"] = junit.render(summary)
    page = markdown.render(summary, scripts)
    files[directory / "summary.md"] = page.encode(errors="replace")
    try:
        write_all(files)
    except CaseError as error:
        raise OutputError(f"there is no report: {error}") from None
    if problems:
        raise OutputError("; ".join(problems))
    return tuple(files)
