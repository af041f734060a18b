# SPDX-License-Identifier: GPL-2.0-or-later
"""6,000 spoiled case files; and that the watch is awake."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from checker.errors import CaseError
from tests.fuzz import readers
from tests.fuzz.material import CASES
from tests.fuzz.watching import Faults, inputs

if TYPE_CHECKING:
    from collections.abc import Callable

CASE = (CASES / "known" / "hazard-lost-node.json").read_bytes()


@pytest.mark.slow
def test_every_document_is_a_case_or_a_line() -> None:
    faults = readers.fuzz(inputs(6_000), 1)
    assert not faults.buckets, faults.text()
    assert faults.accepted > faults.inputs // 5, "nearly none of the inputs is a case"


def failing(*_: Any, **__: Any) -> Any:
    raise KeyError("node")


def two_lines(_data: bytes) -> Any:
    raise CaseError("one\ntwo")


def command(does: Callable[[], Any]) -> click.Command:
    """A command line that takes whatever it is given."""
    rest = click.Argument(["rest"], nargs=-1, expose_value=False)
    return click.Command("x", callback=does, params=[rest])


@pytest.mark.parametrize(
    ("name", "bent", "says"),
    [
        ("decode", failing, "KeyError"),
        ("decode", two_lines, "the refusal is not one line"),
        ("encode", lambda _case: CASE.replace(b'"title": "', b'"title": "x'), "a case that is"),
        ("encode", failing, "KeyError"),
        ("script.render", failing, "KeyError"),
        ("junit.render", lambda _summary: b"<a></b>", "ParseError"),
        ("markdown.render", lambda *_: "\x1b[2J", "control characters in summary.md"),
        ("cli", command(lambda: click.echo("\x1b[2J")), "control characters on the terminal"),
        ("cli", command(lambda: sys.exit(2)), "replay ends with status 2"),
        ("cli", command(failing), "KeyError"),
    ],
)
def test_what_is_wrong_is_noticed(
    name: str, bent: Callable[..., Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Faults()
    readers.attempt(CASE, sound)
    readers.attempt(b"{", sound)
    assert (sound.inputs, sound.accepted, sound.buckets.total()) == (2, 1, 0)
    monkeypatch.setattr(f"tests.fuzz.readers.{name}", bent)
    faults = Faults()
    readers.attempt(CASE, faults)
    (bucket,) = faults.buckets
    assert bucket.startswith(says)
