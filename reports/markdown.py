# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as a Markdown page: what ran, which rules were reached, and each finding."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from model.values.trace import Json, Observation

from reports import mermaid
from reports.limits import MOST_FINDINGS, MOST_STEPS, MOST_VALUE
from reports.shown import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.values import Finding, Step, Summary

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,;()-]{0,200}")


@attrs.frozen
class _Drawn:
    """A finding with its graphs: before the step that shows it, and after it on both sides."""

    name: str
    finding: Finding
    before: str
    expected: str
    got: str
    script: str
    left_out: int = 0
    """Steps at the beginning that are not told."""
    users: tuple[tuple[str, str], ...] = ()
    """Jobs and exports after the step, as expected and as seen."""


def render(summary: Summary, scripts: Mapping[str, str] | None = None) -> str:
    """The page; ``scripts`` maps signatures to the names of the scripts that show them."""
    told = [("Finding", each) for each in summary.findings]
    told += [("Recovered from an earlier run", each) for each in summary.recovered]
    found = [_drawn(name, each, scripts or {}) for name, each in told[:MOST_FINDINGS]]
    more = [finding for _, finding in told[MOST_FINDINGS:]]
    template = _environment().get_template("summary.md.jinja")
    return template.render(summary=summary, found=found, more=more)


@cache
def _environment() -> Environment:
    """What the page is made with: once, since it takes longer than to make a page."""
    # Markdown, not HTML: names and texts from outside stand in code spans, where nothing is a tag,
    # a link or the end of a block.
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    environment.filters["cell"] = cell
    environment.filters["plain"] = plain
    environment.filters["line"] = line
    environment.filters["reply"] = reply
    environment.filters["compact"] = compact
    return environment


def _drawn(name: str, finding: Finding, scripts: Mapping[str, str]) -> _Drawn:
    number = len(finding.steps) - 1
    if finding.difference is not None:
        number = min(finding.difference.step, number)
    before = None
    if number > 0:
        # Until that step both sides agreed; names that were generated are the target's.
        step = finding.steps[number - 1]
        before = step.got or step.expected
    empty = Observation({}, [], {"nodes": [], "edges": []})
    last = finding.steps[number] if number >= 0 else None
    return _Drawn(
        name,
        finding,
        mermaid.of_observation(before if number > 0 else empty),
        mermaid.of_observation(last.expected if last else None),
        mermaid.of_observation(last.got if last else None),
        scripts.get(finding.signature, ""),
        max(0, len(finding.steps) - MOST_STEPS),
        _users(last),
    )


def _users(step: Step | None) -> tuple[tuple[str, str], ...]:
    """What uses the graph after a step, on both sides, where anything does."""
    if step is None:
        return ()
    sides = (("expected", step.expected), ("seen", step.got))
    told = tuple((side, _told_users(seen)) for side, seen in sides if seen is not None)
    return told if any(text for _, text in told) else ()


def _told_users(seen: Observation) -> str:
    jobs = [
        f"{job.get('type')} job {job.get('device')} {job.get('status')}"
        f" ({job.get('offset')} of {job.get('len')} bytes)"
        for job in mermaid.dicts(seen.jobs)
    ]
    exports = [
        f"export {each.get('id')} of {each.get('node-name')}"
        for each in mermaid.dicts(seen.exports)
    ]
    return ", ".join([*jobs, *exports])


def code(text: object) -> str:
    """Text as a Markdown code span, whatever backquotes it holds."""
    told = line(" ".join(str(text).split())) or " "
    ticks = "`"
    while ticks in told:
        ticks += "`"
    pad = " " if told.startswith("`") or told.endswith("`") else ""
    return f"{ticks}{pad}{told}{pad}{ticks}"


def cell(text: object) -> str:
    """Text as a code span in a table, where a bar would end the cell."""
    return code(text).replace("|", "\\|")


def plain(text: object) -> str:
    """Text as it is if Markdown makes nothing of it, else a code span."""
    told = str(text)
    return told if _PLAIN.fullmatch(told) and "www." not in told else code(told)


def line(text: object) -> str:
    """Text in one line of printable characters, cut where it gets long."""
    return shown(str(text), MOST_VALUE)


def compact(value: Json) -> str:
    """A value as JSON in one line."""
    return json.dumps(value)


def reply(observation: Observation | None) -> str:
    """A reply in one line: the error's text, or ``success``."""
    if observation is None:
        return "no reply"
    answer: Json = observation.reply
    if "error" in answer:
        error = answer["error"]
        if isinstance(error, dict):
            return f"{error.get('class')}: {error.get('desc')}"
        return f"error: {json.dumps(error)}"
    if "return" not in answer:
        return f"neither success nor error: {json.dumps(answer)}"
    if answer["return"] in ({}, None):
        return "success"
    return json.dumps(answer["return"])
