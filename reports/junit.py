# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as JUnit XML, which continuous-integration systems show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from reports.limits import MOST_STEPS, MOST_TITLE, MOST_VALUE
from reports.shown import shown

if TYPE_CHECKING:
    from reports.values import Finding, Summary


def render(summary: Summary) -> bytes:
    """The XML document: one test case per finding, and one that says that the run held."""
    suite = TestSuite(f"reopencheck {summary.command} {_clean(summary.dialect)}")
    suite.add_property("seed", str(summary.seed))
    suite.add_property("release", _clean(summary.release))
    suite.add_property("examples", str(summary.examples))
    suite.add_property("commands", str(summary.commands))
    suite.add_property("rules_reached", f"{summary.rules_reached}/{summary.rules_total}")
    whole = TestCase(
        f"{summary.examples} examples, {summary.commands} commands",
        f"reopencheck.{summary.command}",
        round(summary.seconds, 3),
    )
    if summary.failed:
        count = summary.divergences + summary.crashes + summary.violations
        whole.result = [Failure(f"{count} of {summary.examples} examples did not hold")]
    suite.add_testcase(whole)
    if summary.trouble:
        ended = TestCase("the run ended early", f"reopencheck.{summary.command}")
        ended.result = [Error(_clean(summary.trouble), "trouble")]
        suite.add_testcase(ended)
    for finding in (*summary.findings, *summary.recovered):
        suite.add_testcase(_case(summary, finding))
    document = JUnitXml("reopencheck")
    document.add_testsuite(suite)
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return text


def _case(summary: Summary, finding: Finding) -> TestCase:
    case = TestCase(_clean(finding.signature), f"reopencheck.{summary.command}.findings")
    died = finding.kind in {"crash", "hang", "exit", "protocol"}
    result = (Error if died else Failure)(_clean(finding.title), finding.kind)
    left_out = max(0, len(finding.steps) - MOST_STEPS)
    lines = [f"({left_out} steps before these)"] if left_out else []
    lines += [json.dumps(step.command) for step in finding.steps[left_out:]]
    if finding.case_file is not None:
        lines.append(f"case: {finding.case_file}")
    result.text = "\n".join(shown(line, MOST_VALUE) for line in lines)
    case.result = [result]
    return case


def _clean(text: str) -> str:
    """Text in one line; what XML cannot hold at all is escaped in it."""
    return shown(text, MOST_TITLE)
