# SPDX-License-Identifier: GPL-2.0-or-later
"""The rooms of the packages: no module needs a lucky order of imports, and none is in a ring.

That rooms look only down is a contract of import-linter (``make lint``); here it is tried that the
contract notices. What is written of modules names those that there are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rooms import ROOT, cannot_be_imported_alone, modules, rings

BELOW = {
    "model": (),
    "strategies": ("model",),
    "properties": ("model",),
    "targets": ("model",),
    "reports": ("model",),
    "checker": ("model", "strategies", "properties", "reports"),
}
"""The packages, each with those that are imported before it."""
IN_ROOMS = ("checker", "targets")
"""The packages whose rooms have a table on the page that is written by hand."""

NAMED = re.compile(
    r"(?<![\w/])(?:model|strategies|properties|checker|targets|reports|tests)/[\w/]+\.py"
)
"""A file that a page names."""

REFERRED = re.compile(
    r"(?::mod:`|python -m )((?:model|strategies|properties|checker|targets|reports)\.[\w.]*\w)"
)
"""A module that a docstring names."""

LUCKY = {
    "__init__.py": "",
    "first.py": "from lucky.second import late\n\nearly = 1\n",
    "second.py": "import lucky.first\n\nlate = 2\n",
    "third.py": "from lucky import fourth\n",
    "fourth.py": "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import lucky.third\n",
    "fifth.py": "import os\n\nimport lucky.third\n",
}
"""A package with a ring that works in one order only, and one for types alone."""


@pytest.fixture
def lucky(tmp_path: Path) -> Path:
    (tmp_path / "lucky").mkdir()
    for name, text in LUCKY.items():
        (tmp_path / "lucky" / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("package", BELOW)
def test_every_module_can_be_imported_alone(package: str) -> None:
    assert len(modules(package)) > 5
    assert cannot_be_imported_alone(package, *BELOW[package]) == {}


@pytest.mark.parametrize("package", BELOW)
def test_no_modules_import_each_other(package: str) -> None:
    assert rings(package) == []


def test_a_module_that_needs_another_first_is_noticed(lucky: Path) -> None:
    failed = cannot_be_imported_alone("lucky", root=lucky)
    assert failed.keys() == {"lucky.second"}
    assert failed["lucky.second"].startswith("ImportError: cannot import name 'late'")


def test_a_ring_is_noticed(lucky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(lucky)
    found = sorted(sorted(ring) for ring in rings("lucky"))
    assert found == [["lucky.first", "lucky.second"], ["lucky.fourth", "lucky.third"]]


@pytest.mark.parametrize(
    ("module", "looks_up_at", "contract"),
    [
        ("checker/cases/waits.py", "checker.cli.options", "rooms of the checker look only down"),
        ("checker/search/confirm.py", "checker.runs.tally", "rooms of the checker look only down"),
        ("targets/gate/kinds.py", "targets.daemons.pool", "rooms of the targets look only down"),
    ],
)
def test_the_contracts_notice_who_looks_up(
    tmp_path: Path, module: str, looks_up_at: str, contract: str
) -> None:
    """Even where it is for types alone."""
    for package in ("model", "strategies", "properties", "targets", "checker", "reports"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"if TYPE_CHECKING:\n    import {looks_up_at}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
    assert done.stdout.count("BROKEN") == 1


def test_pages_name_modules_that_are_there() -> None:
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {
        (page.name, name)
        for page in pages
        for name in NAMED.findall(page.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert {each for each in named if not (ROOT / each[1]).exists()} == set()


@pytest.mark.parametrize("package", BELOW)
def test_docstrings_name_modules_that_are_there(package: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / package).rglob("*.py")]
    named = {name for source in sources for name in REFERRED.findall(source)}
    assert named - {name for each in BELOW for name in modules(each)} == set()


@pytest.mark.parametrize("package", IN_ROOMS)
def test_the_page_on_architecture_has_every_room(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = page.partition(f"## The rooms of `{package}/`")[2].partition("\n## ")[0]
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert {name for name in rooms if f"| `{name}/` |" not in rows} == set()
    assert set(re.findall(r"^\| `(\w+)/`", rows, re.MULTILINE)) == rooms
