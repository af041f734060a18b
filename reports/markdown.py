# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as a Markdown page: what ran, which rules were reached, and each finding."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from model.trace import Json, Observation
from reports import mermaid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.values import Finding, Step, Summary


@attrs.frozen
class _Drawn:
    """A finding with its graphs: before the step that shows it, and after it on both sides."""

    finding: Finding
    before: str
    expected: str
    got: str
    script: str
    users: tuple[tuple[str, str], ...] = ()
    """Jobs and exports after the step, as expected and as seen."""


def render(summary: Summary, scripts: Mapping[str, str] | None = None) -> str:
    """The page; ``scripts`` maps signatures to the names of the scripts that show them."""
    found = [_drawn(finding, scripts or {}) for finding in summary.findings]
    template = _environment().get_template("summary.md.jinja")
    return template.render(summary=summary, found=found)


@cache
def _environment() -> Environment:
    """What the page is made with: once, since it takes longer than to make a page."""
    # Markdown, not HTML: names and texts stand in code spans, where nothing is a tag.
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code"] = code
    environment.filters["reply"] = reply
    environment.filters["compact"] = json.dumps
    return environment


def _drawn(finding: Finding, scripts: Mapping[str, str]) -> _Drawn:
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
        finding,
        mermaid.of_observation(before if number > 0 else empty),
        mermaid.of_observation(last.expected if last else None),
        mermaid.of_observation(last.got if last else None),
        scripts.get(finding.signature, ""),
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
        for job in seen.jobs or ()
    ]
    exports = [f"export {each.get('id')} of {each.get('node-name')}" for each in seen.exports or ()]
    return ", ".join([*jobs, *exports])


def code(text: object) -> str:
    """Text as a Markdown code span, whatever backquotes it holds."""
    told = " ".join(str(text).split()) or " "
    ticks = "`"
    while ticks in told:
        ticks += "`"
    pad = " " if told.startswith("`") or told.endswith("`") else ""
    return f"{ticks}{pad}{told}{pad}{ticks}"


def reply(observation: Observation | None) -> str:
    """A reply in one line: the error's text, or ``success``."""
    if observation is None:
        return "no reply"
    answer: Json = observation.reply
    if isinstance(answer.get("error"), dict):
        error = answer["error"]
        return f"{error.get('class')}: {error.get('desc')}"
    if answer.get("return") in ({}, None):
        return "success"
    return json.dumps(answer.get("return"))
