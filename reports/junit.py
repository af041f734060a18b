# SPDX-License-Identifier: GPL-2.0-or-later
"""A run as JUnit XML, which continuous-integration systems show."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

if TYPE_CHECKING:
    from reports.values import Finding, Summary

# What XML 1.0 cannot hold at all, escaped or not.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
    for finding in summary.findings:
        suite.add_testcase(_case(summary, finding))
    document = JUnitXml("reopencheck")
    document.add_testsuite(suite)
    text: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return text


def _case(summary: Summary, finding: Finding) -> TestCase:
    case = TestCase(_clean(finding.signature), f"reopencheck.{summary.command}.findings")
    died = finding.kind in {"crash", "hang", "exit", "protocol"}
    result = (Error if died else Failure)(_clean(finding.title), finding.kind)
    lines = [json.dumps(step.command) for step in finding.steps]
    if finding.case_file is not None:
        lines.append(f"case: {finding.case_file}")
    result.text = _clean("\n".join(lines))
    case.result = [result]
    return case


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
