# SPDX-License-Identifier: GPL-2.0-or-later
"""Case files: what is written can be read, and what strangers send is checked."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checker.cases.case import (
    Case,
    decode,
    encode,
    file_name,
    from_finding,
    load,
    load_known,
    schema,
    write,
)
from checker.errors import CaseError
from model.values.trace import ImageSpec, Observation
from reports.values import Difference, Finding, Step

ADD = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n0"}}
FINDING = Finding(
    kind="divergence",
    signature="blockdev-add | reply",
    title="they differ",
    images=(
        ImageSpec("hd0.qcow2", "qcow2", 1024, "hd1.raw", "raw"),
        ImageSpec("hd1.raw", "raw", 9, data=((0, 5, 17), (3, 6, 0))),
    ),
    steps=(
        Step(
            ADD,
            Observation({"return": {}}, [], {"nodes": [], "edges": []}),
            Observation(
                {"error": {"class": "GenericError", "desc": "no"}},
                None,
                None,
                ({"e": 1},),
                [{"device": "j0"}],
                [],
            ),
        ),
    ),
    difference=Difference(0, "reply", {"return": {}}, None),
    release="7.2.22",
    dialect="qemu-7.2",
    seed=3,
    stderr=("last words",),
)


def document(**changes: Any) -> dict[str, Any]:
    """A valid case with some members replaced; None removes one."""
    whole: dict[str, Any] = json.loads(encode(from_finding(FINDING)))
    whole.update(changes)
    return {k: v for k, v in whole.items() if v is not None}


def test_a_finding_survives_the_file(tmp_path: Path) -> None:
    path = write(from_finding(FINDING, {"found-by": "a test"}), tmp_path / "deep" / "cases")
    case = load(path)
    assert case.finding() == FINDING
    assert case.provenance == {"found-by": "a test"}
    assert case.trace().commands == (ADD,)
    assert path.name == file_name("divergence", "qemu-7.2", FINDING.signature)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_qmp_lets_pass_survives_too() -> None:
    odd = {
        "execute": "blockdev-add",
        "arguments": {"size": 2**90, "node-name": "\ud800", "x": 1e300},
    }
    case = decode(json.dumps(document(steps=[{"command": odd}])).encode())
    assert case.trace().commands == (odd,)
    assert decode(encode(case)) == case


def test_published_schema_is_the_code_s() -> None:
    published = json.loads(
        (Path(__file__).parents[3] / "docs/case.schema.json").read_text(encoding="utf-8")
    )
    assert published == json.loads(json.dumps(schema()))


def test_schema_does_not_depend_on_the_release_of_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = schema()
    generate = msgspec.json.schema

    def otherwise(value: Any) -> Any:
        """As another release does: docstrings indented, alternatives in another order."""
        if isinstance(value, list):
            return [otherwise(item) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {key: otherwise(item) for key, item in value.items()}
        if "anyOf" in changed:
            changed["anyOf"].reverse()
        if "description" in changed:
            changed["description"] = changed["description"].replace("\n", "\n    ")
        return changed

    monkeypatch.setattr(msgspec.json, "schema", lambda kind: otherwise(generate(kind)))
    assert otherwise(generate(Case)) != generate(Case)
    assert schema() == plain


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b'{"reopencheck-case": NaN}', "not JSON: NaN is not a JSON number"),
        (b"[" * 100000, "not JSON"),
        (b"[]", "not a case"),
        (b"{}", "not a case"),
        (b'{"reopencheck-case": 2}', "case format 2 is not supported; this release reads 1"),
        (b'{"reopencheck-case": true}', "case format true is not supported"),
        (b'{"reopencheck-case": "1"}', 'case format "1" is not supported'),
        (b'{"reopencheck-case": 1}', "not a valid case: Object missing required field"),
    ],
)
def test_what_is_no_case(data: bytes, says: str) -> None:
    with pytest.raises(CaseError, match=r"^" + says.replace("(", r"\(")) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "worse"}, "Invalid enum value 'worse'"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"ex\rtra": 1}, r"unknown field `ex\rtra`"),
        ({"steps": None}, "missing required field `steps`"),
        ({"steps": {}}, "Expected `array`"),
        ({"steps": [{"command": []}]}, "Expected `object`"),
        ({"images": [{"name": "a", "format": "raw", "size": -1}]}, ">= 0"),
        ({"images": [{"name": "a", "format": "raw", "size": "1"}]}, "Expected `int`"),
        (
            {"images": [{"name": "a", "format": "raw", "size": 1}] * 2},
            "two images are called 'a'",
        ),
        ({"difference": {"step": 7, "path": "x", "expected": 1, "got": 2}}, "does not have"),
        ({"reopencheck-case": 0}, "case format 0 is not supported"),
    ],
)
def test_what_is_no_valid_case(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CaseError) as caught:
        decode(json.dumps(document(**changes)).encode())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../hd0", "a/b", "..", ".", "", "nbd:x", "a\n", "-f", "a\0b"]
)
def test_image_names_stay_inside(name: str) -> None:
    for image in (
        {"name": name, "format": "raw", "size": 1},
        {"name": "a", "format": "raw", "size": 1, "backing": name},
    ):
        with pytest.raises(CaseError, match=r"is not a plain file name"):
            decode(json.dumps(document(images=[image])).encode())


@pytest.mark.parametrize(
    "arguments",
    [
        {"driver": "file", "filename": "/dev/sda"},
        {"driver": "file", "filename": "../x"},
        {"driver": "file", "filename": "a/../../x"},
        {"driver": "file", "filename": "file:/etc/passwd"},
        {"driver": "file", "filename": "nbd://host/x"},
        {"driver": "qcow2", "file": {"driver": "file", "filename": "/x"}},
        {"driver": "qcow2", "file.filename": "/x"},
        {"driver": "raw", "file": {"filename": 'json:{"file.filename": "/x"}'}},
        {"driver": "blkdebug", "config": "/x"},
        {"filename": "sub/hd0.qcow2"},
        {"filename": "json:{"},
    ],
)
def test_commands_stay_inside(arguments: dict[str, Any]) -> None:
    steps = [{"command": {"execute": "blockdev-add", "arguments": arguments}}]
    changed = json.dumps(document(steps=steps)).encode()
    with pytest.raises(CaseError, match=r"^step 1: blockdev-add: .*(use|write|leave)"):
        decode(changed)


@pytest.mark.parametrize(
    "arguments",
    [
        {"node-name": "/not/a/file"},
        {"filename": "hd0.qcow2"},
        {"filename": "hd-0.raw"},
    ],
)
def test_names_that_are_no_files_pass(arguments: dict[str, Any]) -> None:
    steps = [{"command": {"execute": "blockdev-add", "arguments": arguments}}]
    case = decode(json.dumps(document(steps=steps)).encode())
    assert case.trace().commands == (steps[0]["command"],)


def step(execute: str, **arguments: Any) -> list[dict[str, Any]]:
    named = {key.replace("_", "-"): value for key, value in arguments.items()}
    return [{"command": {"execute": execute, "arguments": named}}]


@pytest.mark.parametrize(
    "steps",
    [
        step("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}}),
        step("reopencheck-wait", id="/job", status="paused", progress=524288),
        step("reopencheck-wait", id="j0", status="null"),
        step("reopencheck-read", node="/n0"),
        step("reopencheck-write", node="n0", offset=0, length=512, pattern=255),
        step("block-commit", device="a", job_id="/j", base_node="/b", filter_node_name="/f"),
    ],
)
def test_jobs_and_driving_commands_pass(steps: list[dict[str, Any]]) -> None:
    case = decode(json.dumps(document(steps=steps)).encode())
    assert case.trace().commands == tuple(each["command"] for each in steps)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            step("nbd-server-start", addr={"type": "unix", "data": {"path": "/run/x"}}),
            "step 1: nbd-server-start: addr.data.path: the socket name '/run/x' may lead out",
        ),
        (
            step("nbd-server-start", addr={"type": "unix", "data": {"path": "../x"}}),
            "step 1: nbd-server-start: addr.data.path: the socket name '../x' may lead out",
        ),
        (
            step("nbd-server-start", addr={"type": "inet", "data": {"host": "::", "port": "1"}}),
            "step 1: nbd-server-start: addr.type: address 'inet' is not among those",
        ),
        (
            step("nbd-server-start", addr={"type": "vsock", "data": {"cid": "2", "port": "1"}}),
            "step 1: nbd-server-start: addr.type: address 'vsock' is not among those",
        ),
        (
            step("nbd-server-start", addr={"data": {"path": "x", "abstract": True}}),
            "step 1: nbd-server-start: addr.data.abstract: a socket that is no file",
        ),
        (
            step("block-commit", device="a", backing_file="/etc/passwd"),
            "step 1: block-commit: backing-file: the file name '/etc/passwd' may lead out",
        ),
        (step("reopencheck-sleep"), "no driving command is called 'reopencheck-sleep'"),
        (step("reopencheck-wait", id="j0", status="soon"), "Invalid enum value 'soon'"),
        (step("reopencheck-wait", id="j0"), "missing required field `status`"),
        (step("reopencheck-read", node=1), "Expected `str`, got `int`"),
        (step("reopencheck-read", node="a", more=1), "unknown field `more`"),
        (
            step("reopencheck-write", node="a", offset=0, length=2**40, pattern=1),
            "<= 67108864 - at `$.length`",
        ),
        (
            [{"command": {"execute": "reopencheck-read", "arguments": {"node": "a"}, "id": 1}}],
            "reopencheck-read has its arguments and nothing else",
        ),
        ([{"command": {"execute": "reopencheck-read"}}], "its arguments and nothing else"),
    ],
)
def test_what_reaches_out_or_cannot_be_driven(steps: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(CaseError) as caught:
        decode(json.dumps(document(steps=steps, difference=None)).encode())
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([[0, 513, 1]], "513 bytes from 0 do not lie within the image 'a'"),
        ([[500, 12, 256]], "Expected `int` <= 255"),
        ([[-1, 12, 1]], "Expected `int` >= 0"),
        ([[0, 0, 1]], "Expected `int` >= 1"),
        ([[0, 1]], "Expected `array` of length 3"),
    ],
)
def test_data_lies_within_its_image(data: list[Any], says: str) -> None:
    images = [{"name": "a", "format": "raw", "size": 512, "data": data}]
    with pytest.raises(CaseError) as caught:
        decode(json.dumps(document(images=images)).encode())
    assert says in str(caught.value)


def test_what_a_case_may_not_hold_is_told_with_its_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    steps = [{"command": {"execute": "migrate", "arguments": {"uri": "exec:x"}}}]
    bad.write_text(json.dumps(document(steps=steps)), encoding="utf-8")
    with pytest.raises(CaseError, match=r"bad.json: step 1: migrate: this command is not one"):
        load(bad)


def test_data_is_bounded() -> None:
    half = [0, 40 << 20, 1]
    images = [{"name": "a", "format": "raw", "size": 1 << 30, "data": [half, half]}]
    with pytest.raises(CaseError, match="the images have more than 64 MiB of data"):
        decode(json.dumps(document(images=images)).encode())


def test_cases_from_before_jobs_stay_readable() -> None:
    known = Path(__file__).parents[3] / "cases" / "known"
    case = load(known / "hazard-qcow2-file.json")
    assert case.images
    assert all(image.data == [] for image in case.images)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"cannot read .*nothing: No such file or directory"):
        load(tmp_path / "nothing")
    with pytest.raises(CaseError, match=r"Is a directory"):
        load(tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text("{", encoding="utf-8")
    with pytest.raises(CaseError, match=r"bad.json: not JSON"):
        load(bad)


def test_what_is_no_regular_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(CaseError, match=rf"\Acannot read {path}: a case is a regular file"):
            load(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(CaseError, match=r"\Acannot read .*socket: [^\n]+\Z"):
            load(tmp_path / "socket")
    with pytest.raises(CaseError, match=r"\Acannot read .*: [^\n]+\Z"):
        load(tmp_path / "a\0b")


def test_writing_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CaseError, match=r"cannot write .*: File exists"):
        write(from_finding(FINDING), tmp_path / "file")


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("checker.cases.files.os.fsync", full)
    with pytest.raises(CaseError, match=r"cannot write .*: No space left on device"):
        write(from_finding(FINDING), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_known_issues(tmp_path: Path) -> None:
    assert load_known(tmp_path / "none") == {}
    path = write(from_finding(FINDING, {"hazard": "hazard.x"}), tmp_path)
    assert load_known(tmp_path) == {"hazard.x": [path.name]}


def test_a_case_without_steps_has_no_difference() -> None:
    case = decode(json.dumps(document(steps=[], difference=None)).encode())
    assert isinstance(case, Case)
    assert case.finding().steps == ()


def test_a_version_that_is_none_is_told_in_a_short_line() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    versions: tuple[Any, ...] = (10**4000, "x" * 10_000, deep, None, {}, 2.5)
    for version in versions:
        with pytest.raises(CaseError, match="is not supported") as raised:
            decode(json.dumps({"reopencheck-case": version}).encode())
        assert len(str(raised.value)) < 120


def test_digits_are_limited_in_our_own_words() -> None:
    def with_digits(count: int) -> bytes:
        return b'{"reopencheck-case": -' + b"9" * count + b"}"

    with pytest.raises(CaseError, match="is not supported"):
        decode(with_digits(4300))
    with pytest.raises(CaseError, match="not JSON: a number of 4301 digits; the most is 4300"):
        decode(with_digits(4301))
