# SPDX-License-Identifier: GPL-2.0-or-later
"""Links in the pages lead somewhere, and the README explains the last line of each run."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from checker.cli.ending import verdict
from reports.values import Summary

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)(?P<file>[^)#\s]*)(?:#(?P<heading>[^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\- ]", "", each).lower() for each in HEADING.findall(text))
    return {each.replace(" ", "-") for each in plain}


def broken(page: Path, text: str) -> list[str]:
    """The links in the ``text`` of a page that lead nowhere."""
    found = []
    for link in LINK.finditer(text):
        target = page.parent / link["file"] if link["file"] else page
        there = target.exists()
        if there and link["heading"]:
            there = link["heading"] in anchors(target.read_text(encoding="utf-8"))
        if not there:
            found.append(link[0])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text(encoding="utf-8")) == []


def test_a_link_that_leads_nowhere_is_noticed() -> None:
    readme = ROOT / "README.md"
    text = "[a](docs/rules.md) [b](docs/no-such.md) [c](docs/compare.md#no-such) [d](#what-it-does)"
    assert broken(readme, text) == ["](docs/no-such.md)", "](docs/compare.md#no-such)"]


def test_the_readme_says_what_to_do_after_each_last_line() -> None:
    held = Summary("diff", "", "qemu-7.2", 0)
    last_lines = {
        verdict(held, trouble=False),
        verdict(held, trouble=True),
        verdict(attrs.evolve(held, divergences=1), trouble=False),
        verdict(attrs.evolve(held, disturbed=1), trouble=False),
        verdict(attrs.evolve(held, outside=1), trouble=False),
    }
    assert len(last_lines) == 5
    part = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Reading the result")[2]
    told = set(re.findall(r"\*\*`([^`]+)`\*\*", part.partition("\n## ")[0]))
    assert told == last_lines
