# SPDX-License-Identifier: GPL-2.0-or-later
"""The page about the architecture shows the rooms as they are."""

from __future__ import annotations

from tests.architecture import BEGIN, END, PAGE, ROOT, brought_up_to_date, floors, picture

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_page_shows_the_rooms_as_they_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    assert page == brought_up_to_date(page), "run python -m tests.architecture"


def test_a_page_that_shows_other_rooms_is_noticed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    stale = page.replace("    jobs --> drivers\n", "")
    assert stale != page
    assert brought_up_to_date(stale) == page


def test_the_picture_has_the_floors_of_the_contract() -> None:
    rooms = floors(PYPROJECT)
    assert rooms[-1] == ["values"]
    assert {room for floor in rooms for room in floor} == {
        path.stem
        for path in (ROOT / "model").iterdir()
        if path.name[0] != "_" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert picture([["a"], ["b", "c"], ["d"]]).split("\n")[2:6] == [
        "    a --> b",
        "    a --> c",
        "    b --> d",
        "    c --> d",
    ]
