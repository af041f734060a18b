# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing from outside acts on a terminal, a page, a line of a script or a document."""

from __future__ import annotations

import re
import subprocess
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest

from checker.console import summary_lines
from model.values.trace import ImageSpec, Observation
from reports import junit, markdown, mermaid, script
from reports.limits import MOST_DRAWN, MOST_STEPS, MOST_TITLE, MOST_VALUE
from reports.shown import shown
from reports.values import Difference, Finding, Step, Summary
from tests.reports.samples import FINDING, SUMMARY

HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\rb\nc\u2028d\u2029e\x85f\x0bg",
    "\u202egnp.exe\u2066\u2069\u200f",
    "zero\u200bwidth\ufeff\u2060\u00ad\u3164\ufe0f",
    "\ud800\udfff\x00\x7f",
    "`touch x` $(touch x) ; touch x",
    "'; touch x; '",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[link](javascript:alert(1)) ![image](http://example.org/x) www.example.org",
    "```\n# heading\n```mermaid\n%%{init: {}}%%",
    '"]; click n0 "javascript:alert(1)"',
    "| a | b |\n|---|---|",
    "]]> &amp; <!-- \U000e0001",
    "END_OF_REQUESTS\nquit",
]
CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def poisoned(text: str) -> Finding:
    observed = Observation(
        {"error": {"class": text, "desc": text}},
        [{"node-name": text, "drv": text, "ro": True}],
        {
            "nodes": [
                {"id": 1, "type": "block-driver", "name": text},
                {"id": 2, "type": text, "name": text},
            ],
            "edges": [{"parent": 1, "child": 2, "name": text, "perm": [text], "shared-perm": []}],
        },
        (),
        [{"device": text, "type": text, "status": text}],
        [{"id": text, "node-name": text}],
    )
    return Finding(
        kind="divergence",
        signature=text,
        title=text,
        images=(ImageSpec("hd0.raw", "raw", 512),),
        steps=(Step({"execute": "x", "arguments": {"name": text}}, observed, observed),),
        difference=Difference(0, f"nodes[{text}]", text, text),
        case_file=f"out/{text}",
        release=text,
        dialect="qemu-7.2",
        stderr=(text,),
    )


def told(text: str) -> Summary:
    return attrs.evolve(
        SUMMARY,
        release=text,
        target=text,
        notes=(text,),
        trouble=text,
        known_issues=((text, 1),),
        findings=(poisoned(text),),
        recovered=(poisoned(text),),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_it_is_one_line_of_what_can_be_seen(text: str) -> None:
    assert not CONTROL.search(shown(text))
    assert "\n" not in shown(text)
    assert shown("plain 'text' ä") == "plain 'text' ä"


def test_what_is_long_is_cut() -> None:
    assert shown("a" * 30, 10) == "a" * 10 + "... (and 20 more characters)"
    assert len(summary_lines(told("x" * 100_000))[-2]) < MOST_TITLE + 200


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_is_only_what_we_wrote(text: str) -> None:
    page = markdown.render(told(text), {text: "x.sh"})
    assert not CONTROL.search(page)
    harmless = markdown.render(told("harmless"), {"harmless": "x.sh"})
    # The same blocks: no heading, fence, row or list more than with a harmless text.
    marks = re.compile(r"^(#+ |```\w*$|\||- |\d+\. | {4}(?=\S))", re.MULTILINE)
    assert marks.findall(page) == marks.findall(harmless)
    # Outside of code spans, fences and indented code nothing of it is left.
    prose = re.sub(r"^```.*?^```$|^ {4}.*?$", "", page, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    for markup in ("<script", "<img", "](", "www."):
        assert markup not in prose


@pytest.mark.parametrize("text", HOSTILE)
def test_a_drawing_has_no_more_than_its_boxes(text: str) -> None:
    drawn = mermaid.of_observation(poisoned(text).steps[0].got)
    assert len(drawn.splitlines()) == 4
    assert not CONTROL.search(drawn)
    inside = re.findall(r'"([^"]*)"', drawn)
    assert len(inside) == 3
    for label in inside:
        assert not set("`%") & set(label.replace("<br/>", ""))
        assert "<" not in label.replace("<br/>", "")


@pytest.mark.parametrize("text", HOSTILE)
def test_junit_is_xml(text: str) -> None:
    root = ET.fromstring(junit.render(told(text)))  # noqa: S314  # our own document
    assert len(root.findall("testsuite/testcase")) == 4
    for element in root.iter():
        assert not CONTROL.search("".join([element.text or "", *element.attrib.values()]))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_script_runs_nothing_of_it(text: str, tmp_path: Any) -> None:
    written = script.render(poisoned(text), text)
    assert not CONTROL.search(written)
    stand_in = tmp_path / "program"
    stand_in.write_text('#!/bin/sh\ncat >/dev/null\nprintf "\\033[31m\\n" >&2\n', encoding="utf-8")
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", "-s"],
        input=written.encode(errors="replace"),
        env={"PATH": "/usr/bin:/bin", "QSD": str(stand_in), "QEMU_IMG": "true"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["program"]
    assert not CONTROL.search(done.stdout.decode())


def test_lines_on_the_terminal() -> None:
    for text in HOSTILE:
        assert not CONTROL.search("\n".join(map(shown, summary_lines(told(text)))))


def test_large_findings_are_cut_in_reports() -> None:
    steps = (Step({"execute": "x" * MOST_VALUE * 2}),) * (MOST_STEPS + 5)
    large = attrs.evolve(FINDING, steps=steps, difference=None)
    page = markdown.render(attrs.evolve(SUMMARY, findings=(large,)))
    assert "The first 5 steps are not told here." in page
    assert "more characters)" in page
    nodes = [{"id": n, "type": "block-driver", "name": f"n{n}"} for n in range(MOST_DRAWN + 7)]
    drawn = mermaid.of_observation(Observation({}, [], {"nodes": nodes, "edges": []}))
    assert 'more["7 more"]' in drawn
