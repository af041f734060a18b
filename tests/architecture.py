# SPDX-License-Identifier: GPL-2.0-or-later
"""What docs/architecture.md shows of the rooms of the spec, made from the contract that keeps them.

``python -m tests.architecture`` brings the page up to date.
"""

from __future__ import annotations

import ast
import tomllib
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- made by: python -m tests.architecture -->\n"
END = "<!-- end of what is made -->\n"
CONTRACT = "the rooms of model look only down"


def floors(pyproject: str) -> list[list[str]]:
    """The rooms from the top down, those on one floor together, as the contract has them."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["name"] == CONTRACT)
    return [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]


def picture(rooms: list[list[str]]) -> str:
    """The floors as a Mermaid graph: who stands above may import whatever is below."""
    lines = ["```mermaid", "flowchart TD"]
    for above, below in pairwise(rooms):
        lines += [f"    {upper} --> {lower}" for upper in above for lower in below]
    return "\n".join([*lines, "```"]) + "\n"


def table(rooms: list[list[str]]) -> str:
    """What each room holds in a sentence, and its modules."""
    lines = ["| room | holds | modules |", "|---|---|---|"]
    for room in (room for floor in rooms for room in floor):
        place = ROOT / "model" / room
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        said = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
        names = sorted(
            f"`{path.name}/`" if path.is_dir() else f"`{path.stem}`"
            for path in place.glob("*")
            if (path.suffix == ".py" and path != source) or (path / "__init__.py").exists()
        )
        shown = f"`{room}/`" if place.is_dir() else f"`{room}.py`"
        lines.append(f"| {shown} | {said.partition(chr(10))[0]} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def made() -> str:
    """The part of the page that is made."""
    rooms = floors((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return f"{BEGIN}\n{picture(rooms)}\n{table(rooms)}\n{END}"


def brought_up_to_date(page: str) -> str:
    """The page with the part that is made as it is to be now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + made() + after


if __name__ == "__main__":
    PAGE.write_text(brought_up_to_date(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
