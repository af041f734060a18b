# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: one clear line and the right status, whatever is asked."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checker.cases.case import encode, from_finding
from checker.cli import entry, generating, inspecting
from checker.search.confirm import Confirmation
from model.values.trace import ImageSpec, Observation
from reports.values import Finding, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

ADD = {"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "n0"}}
OVER = {"backing": "none.raw", "backing-format": "raw"}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Run the command line in an empty directory; returns (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def do(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reopencheck", *words])
        with pytest.raises(SystemExit) as caught:
            entry.main()
        out, err = capsys.readouterr()
        status = caught.value.code
        assert isinstance(status, int)
        return status, out, err

    return do


def fake_daemon(directory: Path, first_line: str) -> str:
    path = directory / "fake-daemon"
    path.write_text(f"#!/bin/sh\necho '{first_line}'\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def write_case(directory: Path, **changes: Any) -> str:
    finding = Finding(
        kind="divergence",
        signature="s",
        title="t",
        images=(ImageSpec("hd0.raw", "raw", 1024),),
        steps=(Step(ADD, Observation({"return": {}}, None, None)),),
        dialect="qemu-7.2",
    )
    document = {**json.loads(encode(from_finding(finding))), **changes}
    path = directory / "case.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_compare_tells_what_a_rule_is_good_for(run: Any) -> None:
    lax = "qemu-7.2 without reopen.backing-missing"
    words = ["compare", "qemu-7.2", lax, "--examples", "40", "--steps", "12", "--seed", "3"]
    status, out, _ = run(*words, "--budget", "10m", "--json")
    assert status == 1
    result = json.loads(out)
    assert (result["first"], result["second"], result["examples"]) == ("qemu-7.2", lax, 40)
    ways = {each["way"] for each in result["differences"]}
    assert f"{lax} accepts, qemu-7.2 refuses" in ways
    case = result["differences"][0]["case"]
    assert run("replay", case, "--dialect", "qemu-7.2")[0] == 0
    status, out, _ = run("replay", case, "--dialect", lax)
    assert status == 1
    assert "DIFFERS" in out


def test_compare_finds_nothing_where_there_is_nothing(run: Any) -> None:
    words = ["compare", "qemu-7.2", "qemu-7.2", "--examples", "3", "--steps", "4"]
    status, out, _ = run(*words, "--seed", "1", "--budget", "10m")
    assert status == 0
    assert out.endswith("no difference\n")


def test_compare_proves_agreement_in_a_scope(run: Any) -> None:
    words = ["compare", "qemu-7.2", "qemu-7.2", "--exhaustive", "--images", "1", "--depth", "2"]
    status, out, err = run(*words)
    assert status == 0
    assert "every sequence of up to 2 commands over 1 image was tried (" in out
    assert out.endswith("qemu-7.2 and qemu-7.2 agree in this scope\n")
    assert "every sequence of up to 1 command over" in err
    status, out, _ = run(*words, "--json")
    assert (status, json.loads(out)["explored"]["complete"]) == (0, 2)


def test_compare_gives_the_shortest_in_a_scope(run: Any) -> None:
    lax = "qemu-7.2 without reopen.backing-missing"
    status, out, _ = run("compare", lax, "qemu-7.2", "--exhaustive", "--depth", "2", "--json")
    assert status == 1
    found = json.loads(out)["differences"]
    assert {each["commands"] for each in found} == {2}
    assert all(each["none-shorter-in-scope"] for each in found)


def test_compare_says_when_a_scope_was_not_finished(run: Any) -> None:
    words = ["compare", "qemu-7.2", "qemu-7.2", "--exhaustive", "--depth", "9", "--budget", "0.1s"]
    status, out, _ = run(*words)
    assert status == 1
    assert ", and some of " in out
    assert out.endswith("no difference\n")


def test_compare_says_what_a_build_does_instead(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the table that QEMU does not bear out is an error of the spec: status 3."""
    doubt = Confirmation((), ("7.2.22: it does not",), ())
    monkeypatch.setattr("checker.search.confirm.confirm", lambda _found, _builds: doubt)
    words = ["compare", "qemu-7.2", "omission-keeps", "--exhaustive", "--depth", "2"]
    status, out, _ = run(*words)
    assert status == 3
    assert "not confirmed: 7.2.22: it does not\n" in out
    assert out.endswith("not confirmed: there the spec is not what QEMU does\n")
    assert run(*words, "--no-confirm")[0] == 1


def test_options_tells_what_a_reopen_does_to_them(run: Any) -> None:
    status, out, _ = run(
        "options", "--driver", "file", "--driver", "copy-on-read", "--driver", "nbd"
    )
    assert status == 0
    assert "reopened with all of them but this one:\n  n.cache.direct: True -> False\n" in out
    assert "      aio-max-batch 65536 (file), aio-max-batch 131072 (file)\n" in out
    assert "never reopened:\n  copy-on-read: Block format" in out
    assert "not tried:\n" in out
    assert "  nbd: needs a device" in out
    status, out, _ = run("options", "qemu-10.0", "--driver", "null-co", "--json")
    result = json.loads(out)
    assert (status, result["party"]) == (0, "qemu-10.0")
    assert {each["driver"] for each in result["trials"]} == {"null-co"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "qemu-7.2", "qemu-9.9"], "no dialect is called 'qemu-9.9'; there are: "),
        (["compare", "qemu-7.2 without no.rule", "qemu-7.2"], "no rule is called 'no.rule'"),
        (["compare", "9.9", "qemu-7.2"], "; and no build: there is no QEMU 9.9 here"),
        (["compare", "qemu-7.2", "qemu-7.2", "--depth", "2"], "are for --exhaustive"),
        (["compare", "qemu-7.2", "qemu-7.2", "--exhaustive", "--depth", "0"], "not in the range"),
        (["compare", "qemu-7.2"], "Missing argument 'B'"),
        (["compare", "qemu-7.2", "qemu-7.2", "--budget", "soon"], "'soon' is not a time"),
        (["options", "qemu-9.9"], "; and no build: no such binary in PATH: qemu-9.9"),
        (["options", "qemu-7.2", "--driver", "x"], "qemu-7.2 has no driver 'x'"),
        (["check", "--examples", "0"], "'--examples': 0 is not in the range x>=1"),
        (["check", "--examples", "-5"], "'--examples': -5 is not in the range x>=1"),
        (["check", "--examples", "many"], "'many' is not a valid integer"),
        (["check", "--steps", "0"], "'--steps': 0 is not in the range"),
        (["check", "--seed", "-1"], "'--seed': -1 is not in the range x>=0"),
        (["check", "--budget", "0"], "'0' is not a time such as 90, 90s, 5m or 1h"),
        (["check", "--budget", "-3s"], "'-3s' is not a time"),
        (["check", "--budget", "soon"], "'soon' is not a time"),
        (["check", "--dialect", "qemu-1.0"], "no dialect is called 'qemu-1.0'; there are: "),
        (["rules", "--dialect", "x"], "no dialect is called 'x'; there are: "),
        (["diff"], "Missing option '--qemu'"),
        (["diff", "--qemu", "no-such-binary"], "no such binary in PATH: no-such-binary"),
        (["diff", "--qemu", "/no/such"], "no such binary: /no/such"),
        (["diff", "--qemu", "true"], "or a system emulator: true --version says"),
        (["repeat"], "Missing option '--qemu'"),
        (["repeat", "--qemu", "/no/such"], "no such binary: /no/such"),
        (["mutants", "--qemu", "/no/such"], "no such binary: /no/such"),
        (["replay", "nothing.json"], "cannot read nothing.json: No such file or directory"),
        (["replay", "c", "--qemu", "a", "--dialect", "b"], "exclude each other"),
        (["qemu", "import-schema", "/no/such"], "no such binary: /no/such"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["check", "--no-such-option"], "No such option"),
        (["check", "--cases", "/dev/null"], "cannot write to /dev/null: File exists"),
        (["check", "--report", "/proc/reports"], "cannot write to /proc/reports: "),
    ],
)
def test_wrong_use_is_one_line_and_status_2(run: Any, words: list[str], says: str) -> None:
    status, out, err = run(*words)
    assert status == 2
    assert out == ""
    assert says in err
    assert err.startswith("reopencheck: ")
    assert err.count("\n") == 1


def test_bad_cases_are_one_line(run: Any, tmp_path: Path) -> None:
    for changes, says in (
        ({"reopencheck-case": 9}, "case format 9 is not supported"),
        ({"dialect": "qemu-0.1"}, "no dialect is called 'qemu-0.1'"),
        ({"images": [{"name": "../x", "format": "raw", "size": 1}]}, "not a plain file name"),
        (
            {"images": [{"name": "a", "format": "qcow2", "size": 512, "data": [[0, 9, 1]]} | OVER]},
            "'a': Could not open backing file",
        ),
        ({"steps": [{"command": ADD}]}, "step 1 of the case does not say what is expected"),
    ):
        status, out, err = run("replay", write_case(tmp_path, **changes))
        assert (status, out) == (2, "")
        assert says in err
        assert err.count("\n") == 1


def test_an_internal_error_names_itself(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_name: str) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(inspecting, "find_dialect", breaks)
    status, out, err = run("rules")
    assert (status, out) == (2, "")
    assert err == (
        "reopencheck: internal error: ZeroDivisionError: by zero"
        " (REOPENCHECK_TRACEBACK=1 shows where)\n"
    )
    monkeypatch.setenv("REOPENCHECK_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        entry.main()


def test_an_interrupt_is_130(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupts(_name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspecting, "find_dialect", interrupts)
    assert run("rules")[::2] == (130, "reopencheck: interrupted\n")


def test_replay_on_the_model(run: Any, tmp_path: Path) -> None:
    status, out, _err = run("replay", write_case(tmp_path))
    assert status == 0
    assert out.endswith("agrees: the model, qemu-7.2\n")
    other = {"command": ADD, "expected": {"reply": {"error": {"class": "A", "desc": "no"}}}}
    path = write_case(tmp_path, steps=[other])
    status, out, _err = run("replay", path, "--dialect", "qemu-7.2")
    assert status == 1
    assert "   expected  A: no\n   got       success\n   DIFFERS at reply:" in out
    status, out, _err = run("replay", path, "--json")
    assert status == 1
    document = json.loads(out)
    assert document["agrees"] is False
    assert document["difference"]["step"] == 0


def test_replay_of_a_property(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_case(tmp_path, kind="property", steps=[{"command": ADD}])
    status, out, _err = run("replay", path)
    assert (status, out.splitlines()[-1]) == (0, "agrees: the model, qemu-7.2")

    def broken(_dialect: Any) -> Any:
        return lambda _before, _command, _outcome: [("a-law", "it is broken")]

    monkeypatch.setattr("properties.law_for", broken)
    status, out, _err = run("replay", path)
    assert status == 1
    assert "step 1 breaks a-law: it is broken\nDIFFERS" in out
    status, out, _err = run("replay", path, "--json")
    assert json.loads(out)["violation"] == {"step": 0, "law": "a-law", "text": "it is broken"}


def test_rules(run: Any) -> None:
    status, out, _err = run("rules")
    assert status == 0
    assert "rules of qemu-7.2" in out.splitlines()[-1]
    status, out, _err = run("rules", "--json")
    document = json.loads(out)
    assert document["rules_total"] == len(document["rules"]) > 0
    assert document["rules"][0].keys() >= {"id", "sentence", "source", "kind", "text"}


def test_doctor_lists_masks(run: Any) -> None:
    status, out, _err = run("doctor", "--masks")
    assert status == 0
    assert "mask    actual-size: " in out
    assert "without the order of events of different jobs and exports: they work" in out
    assert "hazard.empty-list: A reopen of no node at all." in out


def test_doctor_says_what_is_missing(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, out, _err = run("doctor")
    assert status == 2
    assert "MISSING  qemu-storage-daemon: no such binary in PATH" in out
    assert "get it with: " in out
    status, out, _err = run("doctor", "--json")
    document = json.loads(out)
    assert (status, document["complete"]) == (2, False)
    assert document["masks"]


def test_a_release_without_dialect_gets_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from targets.builds.binaries import find_daemon  # noqa: PLC0415

    build = find_daemon(fake_daemon(tmp_path, "qemu-storage-daemon version 9.1.2"))
    dialect, notes = generating.choose_dialect(None, build)
    assert dialect.release <= (9, 1)
    (note,) = notes
    assert "release 9.1.2 has no dialect of its own" in note
    assert note in capsys.readouterr().err


def test_help_and_version(run: Any) -> None:
    status, out, _err = run("--help")
    assert status == 0
    for command in ("check", "diff", "repeat", "replay", "rules", "doctor", "mutants", "qemu"):
        assert f"  {command} " in out


def test_a_closed_pipe_is_quiet() -> None:
    script = "import sys; sys.argv = ['reopencheck', 'rules', '--json']\n"
    script += "from checker.cli import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.parametrize("kilobytes", [24_000, 34_000, 44_000, 50_000])
def test_too_little_memory_is_told_in_one_line(kilobytes: int) -> None:
    words = [sys.executable, "-c", "from checker.cli import main; main()", "check", "--examples=1"]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {kilobytes} && exec "$@"', "sh", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("reopencheck: ")
    assert "ulimit -v" in line
    assert done.returncode == 2


def test_what_a_trace_may_hold_is_printed(run: Any) -> None:
    written = (ROOT / "docs" / "containment.md").read_text(encoding="utf-8")
    assert run("rules", "--allowed") == (0, written, "")
    for other in ("--outside", "--json"):
        status, out, err = run("rules", "--allowed", other)
        assert (status, out) == (2, "")
        assert "--allowed excludes" in err


def _texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module that are no docstrings, and no pages of many lines."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "\n" not in node.value:
                yield node.value
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            yield from _texts(node)


def test_messages_name_no_page_that_is_not_installed() -> None:
    """The docs are not part of the packages: what they say, a command says."""
    named = [
        f"{path}: {text}"
        for package in ("model", "strategies", "properties", "targets", "checker", "reports")
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in _texts(ast.parse(path.read_text(encoding="utf-8")))
        if "docs/" in text
    ]
    assert named == []
