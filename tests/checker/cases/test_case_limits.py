# SPDX-License-Identifier: GPL-2.0-or-later
"""What is too much for a case is refused in one line, and what is odd is shown in spite of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from checker.cases import case_limits as limits
from checker.cases.case import decode, load
from checker.cli import entry
from checker.errors import CaseError

ADD = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n0"}}
ROOT = Path(__file__).parents[3]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def document(**changes: Any) -> str:
    whole = {
        "reopencheck-case": 1,
        "kind": "divergence",
        "signature": "s",
        "title": "t",
        "dialect": "qemu-7.2",
        "steps": [{"command": ADD, "expected": {"reply": {"return": {}}}}],
        **changes,
    }
    return json.dumps(whole)


def commands(*every: Any) -> list[dict[str, Any]]:
    return [{"command": command} for command in every]


def described(count: int) -> list[dict[str, Any]]:
    return commands(*({"execute": "blockdev-add", "arguments": {"driver": "x"}},) * count)


RUNS = [{"name": "a", "format": "raw", "size": 1, "data": [[0, 1, 1]] * 1001}]
KINDS = [
    (document(steps=commands(ADD) * 2001), "it has 2001 steps; the most is 2000"),
    (document(images=[{"name": "a"}] * 201), "it has 201 images; the most is 200"),
    (document(images=RUNS), "its images have 1001 runs of data; the most is 1000"),
    (document(steps=commands(nested(99))), "it is nested more than 100 deep"),
    (document(difference=nested(30_000 // 100 * 2)), "it is nested more than 100 deep"),
    (document(steps=commands({"a": "x" * 70_000})), "step 1 has a text of 70000 characters"),
    (document(steps=commands({"x" * 70_000: 1})), "step 1 has a text of 70000 characters"),
    (document(steps=commands({"a": [1] * 50_001})), "its commands hold more than 50000 values"),
    (document(steps=described(601)), "its commands describe more than 600 nodes"),
    (document(seed=0).replace(": 0", ": 1e999"), "not JSON: 1e999 is too large a number"),
    (document(seed=0).replace(": 0", ": 1" + "0" * 5000), "not JSON: a number of"),
    (document(seed=0).replace(": 0", ": NaN"), "not JSON: NaN is not a JSON number"),
]


@pytest.mark.parametrize(("text", "says"), KINDS, ids=[says for _, says in KINDS])
def test_too_much_is_one_line(text: str, says: str) -> None:
    with pytest.raises(CaseError) as caught:
        decode(text.encode())
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_what_is_just_not_too_much_passes() -> None:
    for command, most in ((ADD, limits.MOST_NODES), ({"execute": "query-jobs"}, limits.MOST_STEPS)):
        case = decode(document(steps=commands(command) * most).encode())
        assert case.trace().commands == (command,) * most


def test_every_case_of_ours_fits() -> None:
    every = sorted(ROOT.glob("cases/**/*.json"))
    assert len(every) > 10
    for path in every:
        if "steps" in json.loads(path.read_text(encoding="utf-8")):
            load(path)


def test_the_page_states_the_limits() -> None:
    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8").replace(",", "")
    for name in ("DEPTH", "STEPS", "IMAGES", "RUNS", "NODES", "VALUES", "TEXT"):
        assert re.search(rf"\b{getattr(limits, f'MOST_{name}')}\b", page), name


def expecting(**expected: Any) -> str:
    return document(steps=[{"command": ADD, "expected": {"reply": {"return": {}}, **expected}}])


REPLIES: list[Any] = [
    {},
    {"error": "x"},
    {"error": None},
    {"error": {}},
    {"error": {"class": 1, "desc": []}},
    {"return": 10**4000},
    {"return": nested(90)},
    {"error": {"class": "GenericError", "desc": "\x1b[31m\u202e\ud800\n"}},
]
NODES: list[Any] = [[{}], [{"node-name": 1}], [{"node-name": {}}], [{"node-name": "\ud800"}]]
ODD = [
    *(expecting(reply=reply) for reply in REPLIES),
    *(expecting(nodes=nodes) for nodes in NODES),
    document(dialect="\ud800"),
    document(title="\ud800\x1b", signature="\ud800", stderr=["\x1b"]),
    document(images=[{"name": "\ud800", "format": "raw", "size": 1}]),
    document(images=[{"name": "a", "format": "\ud800", "size": 1}]),
    document(steps=[]),
    *(
        document(kind=kind, steps=[{"command": command, "expected": {"reply": {"return": {}}}}])
        for kind in ("divergence", "property")
        for command in (
            {},
            {"execute": None},
            {"execute": "\x1b[31m\n\ud800"},
            {"execute": "blockdev-add", "arguments": nested(80)},
            {**ADD, "id": nested(80)},
            {"execute": "blockdev-add", "arguments": {"filename": "json:" + "[" * 1000}},
            {"execute": "blockdev-del", "arguments": {"node-name": "\ud800"}},
        )
    ),
]


@pytest.mark.parametrize("number", range(len(ODD)))
@pytest.mark.parametrize("machine", [False, True])
def test_odd_cases_are_shown_or_refused(
    number: int,
    machine: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "case.json"
    path.write_text(ODD[number], encoding="utf-8")
    words = ["reopencheck", "replay", str(path), *(["--json"] if machine else [])]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        entry.main()
    out, err = capsys.readouterr()
    assert "internal error" not in err
    assert all(each.isprintable() or each == "\n" for each in out + err)
    if caught.value.code in {0, 1, 4}:
        assert err == ""
        if machine:
            json.loads(out)
    else:
        assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
