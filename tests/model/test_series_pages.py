# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of docs/series say of rules what the rules say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model import Monitor
from model.release.dialects import find_dialect
from model.drivers import DRIVERS
from model.drivers.declared import DECLARED
from model.release.rules import all_rules

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "series"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
INDEX = (FOLDER / "README.md").read_text(encoding="utf-8")
RULES = {rule.id: rule for rule in all_rules()}
FAMILIES = {rule_id.split(".")[0] for rule_id in RULES}
COLUMNS = ("series-v1", "qemu-5.2", "qemu-7.2", "qemu-10.0", "qemu-11.1")
PATCHES = 13

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def named(text: str) -> set[str]:
    """What is written like the identifier of a rule."""
    words: list[str] = re.findall(r"`([a-z0-9-]+\.[a-z0-9-]+)`", text)
    return {word for word in words if word.split(".")[0] in FAMILIES}


def carried(page: Path) -> dict[str, str]:
    """The rules in a page's own list, with their sentences."""
    text = page.read_text(encoding="utf-8")
    section = text.split("## The rules that carry it")[1].split("\n## ")[0]
    return dict(re.findall(r"^\* `([^`]+)`: (.+)$", section, re.MULTILINE))


def rows(page: Path) -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[first] = cells
    return found


def test_each_patch_has_a_page_and_the_index_leads_there() -> None:
    assert [page.stem[:2] for page in PAGES] == [f"{n:02}" for n in range(1, PATCHES + 1)]
    assert re.findall(r"\]\((\d\d-[a-z-]+\.md)\)", INDEX) == [page.name for page in PAGES]


def test_the_rules_are_known() -> None:
    """That a word is taken for a rule at all is tried, too."""
    assert Monitor("series-v1").dialect.schema_name == "qemu-5.2"
    assert named("`reopen.nonsense`, `block.c`, `reopen.reset`") == {
        "reopen.nonsense",
        "reopen.reset",
    }
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for text in (*texts, INDEX):
        assert named(text) <= RULES.keys()


@every_page
def test_sentences_are_quoted(page: Path) -> None:
    for rule_id, sentence in carried(page).items():
        assert sentence == RULES[rule_id].sentence


@every_page
def test_the_index_names_the_same_rules(page: Path) -> None:
    line = next(line for line in INDEX.splitlines() if page.name in line)
    assert named(line) == carried(page).keys()


@every_page
def test_a_page_says_in_which_dialects_its_rules_hold(page: Path) -> None:
    dialects = [find_dialect(name) for name in COLUMNS]
    told = rows(page)
    for rule_id in carried(page):
        holds = ["-" if rule_id in dialect.absent else "holds" for dialect in dialects]
        assert told[f"`{rule_id}`"] == holds


@pytest.mark.parametrize("number", range(1, PATCHES + 1))
def test_a_rule_is_on_the_page_of_each_patch_that_it_comes_from(number: int) -> None:
    pattern = re.compile(rf"(?<!\d){number}/13")
    expected = {rule.id for rule in RULES.values() if pattern.search(rule.source)}
    assert expected <= carried(PAGES[number - 1]).keys()


def test_sources_name_no_patch_that_there_is_not() -> None:
    numbers = {int(n) for rule in RULES.values() for n in re.findall(r"(\d+)/13", rule.source)}
    assert numbers <= set(range(1, PATCHES + 1))
    assert not [
        rule.id for rule in RULES.values() if re.search(r"patch(es)? \d+(?!\d*/13)", rule.source)
    ]


def test_the_table_of_drivers_is_the_one_of_the_spec() -> None:
    told = rows(PAGES[8])
    for name, declared in DECLARED.items():
        _, omitted, changed, _ = told[name]
        if not declared.can_reopen:
            assert omitted == changed == "no reopen"
        else:
            assert set(re.findall("`([^`]+)`", omitted)) == declared.mutable
            assert set(re.findall("`([^`]+)`", changed)) == declared.changes
    for name in told.keys() & DRIVERS.keys() - {"qcow2"}:
        assert set(re.findall("`([^`]+)`", told[name][1])) == DRIVERS[name].mutable
    assert told.keys() >= {"blkdebug", "file", "null-co", "qcow2", "raw", "throttle", *DECLARED}
