# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read: the numbers are right, and no name or text breaks out of its place."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest

from model.values.state import BlockState, Export, FrozenDict, Job, Link, Node, Role, User
from model.values.trace import Observation
from reports import junit, markdown, mermaid
from reports.values import Step, Summary
from tests.reports.samples import ADDED, FINDING, SUMMARY

CLEAN = attrs.evolve(SUMMARY, divergences=0, findings=(), notes=(), rules=SUMMARY.rules[:1])


def test_figures() -> None:
    assert SUMMARY.failed
    assert not CLEAN.failed
    assert SUMMARY.commands_per_second == 50
    assert (SUMMARY.rules_reached, SUMMARY.rules_total) == (2, 3)
    assert (SUMMARY.refusals_reached, SUMMARY.refusals_total) == (1, 2)
    assert SUMMARY.unreached == ("a.three",)
    assert SUMMARY.never_refused == ("a.two",)
    assert Summary("check", "", "d", 0).commands_per_second == 0


def test_json_has_what_machines_were_promised() -> None:
    keys = SUMMARY.as_json().keys()
    assert keys >= {
        "release",
        "dialect",
        "examples",
        "commands",
        "accepted",
        "refused",
        "divergences",
        "crashes",
        "rules_reached",
        "rules_total",
        "seconds",
        "commands_per_second",
    }
    assert SUMMARY.as_json()["findings"][0]["case"] == "out/cases/x.json"


def test_mermaid_of_an_observation() -> None:
    assert mermaid.of_observation(ADDED) == (
        "flowchart TD\n"
        '    n0["it\'s<br/>qcow2, read-only"]\n'
        '    n1["#35;block012<br/>file"]\n'
        '    n0 -->|"file<br/>rw / s"| n1\n'
    )


def test_mermaid_of_nothing() -> None:
    assert "not observed" in mermaid.of_observation(None)
    assert "not observed" in mermaid.of_observation(Observation({}, None, None))
    assert "no nodes" in mermaid.of_observation(Observation({}, [], {"nodes": [], "edges": []}))


def test_mermaid_of_a_state() -> None:
    link = Link("top", "file", "base", Role.IMAGE)
    state = BlockState(
        FrozenDict(
            {
                "base": Node("base", "file", parents=(link.key,)),
                "top": Node("top", "raw", children=(link,)),
            }
        )
    )
    assert mermaid.of_state(state) == (
        'flowchart TD\n    n0["base<br/>file"]\n    n1["top<br/>raw"]\n    n1 -->|"file"| n0\n'
    )


JOBS: list[dict[str, Any]] = [
    {"device": "j0", "type": "commit", "status": "paused", "offset": 512, "len": 1024}
]
USED = Observation(
    {"return": {}},
    [{"node-name": "top", "drv": "qcow2", "ro": False}],
    {
        "nodes": [
            {"id": 3, "type": "block-job", "name": "j0"},
            {"id": 2, "type": "block-backend", "name": ""},
            {"id": 1, "type": "block-backend", "name": ""},
            {"id": 4, "type": "block-driver", "name": "top"},
        ],
        "edges": [
            {"parent": 3, "child": 4, "name": "main node", "perm": [], "shared-perm": ["write"]},
            {"parent": 2, "child": 4, "name": "root", "perm": [], "shared-perm": []},
        ],
    },
    (),
    JOBS,
    [{"id": "e0", "node-name": "top"}],
)


def test_mermaid_of_users() -> None:
    assert mermaid.of_observation(USED) == (
        "flowchart TD\n"
        '    n0{{"j0<br/>commit job, paused"}}\n'
        '    n1(["block-backend"])\n'
        '    n2(["block-backend"])\n'
        '    n3["top<br/>qcow2"]\n'
        '    n0 -->|"main node<br/>- / w"| n3\n'
        '    n1 -->|"root<br/>- / -"| n3\n'
    )
    unknown = mermaid.of_observation(attrs.evolve(USED, jobs=None, nodes=None))
    assert 'n0{{"j0<br/>block-job"}}' in unknown
    assert 'n3["top<br/>block-driver"]' in unknown


def test_mermaid_of_a_state_with_users() -> None:
    link = Link("top", "backing", "base", Role.COW, frozen=True)
    nodes = {"base": Node("base", "file"), "top": Node("top", "qcow2", children=(link,))}
    users = {
        "job:j0": User("job:j0", "block-job", "j0", (("main node", "top"),)),
        "x": User("x", "block-backend", "", (("root", "base"),)),
    }
    state = BlockState(
        FrozenDict(nodes),
        users=FrozenDict(users),
        jobs=FrozenDict({"j0": Job("j0", "stream", "ready")}),
        exports=FrozenDict({"e0": Export("e0", "x", "name")}),
    )
    assert mermaid.of_state(state) == (
        'flowchart TD\n    n0["base<br/>file"]\n    n1["top<br/>qcow2"]\n'
        '    n2{{"j0<br/>stream job, ready"}}\n    n3(["export e0"])\n'
        '    n1 -->|"backing, frozen"| n0\n    n2 -->|"main node"| n1\n    n3 -->|"root"| n0\n'
    )


def test_markdown_tells_jobs_exports_and_data() -> None:
    plain = attrs.evolve(USED, jobs=[], exports=None)
    found = attrs.evolve(
        FINDING,
        images=(attrs.evolve(FINDING.images[0], data=((0, 512, 7), (1024, 512, 8))),),
        steps=(FINDING.steps[0], Step({"execute": "x"}, USED, plain)),
    )
    states = (("created", 2), ("running", 1), ("paused", 0))
    run = attrs.evolve(
        SUMMARY, findings=(found,), job_states=states, reopened_with_job=4, read_data=5
    )
    page = markdown.render(run)
    for told in (
        "as expected: `commit job j0 paused (512 of 1024 bytes), export e0 of top`\n",
        "as seen: `none`\n",
        "- image `base.raw`: raw, 65536 bytes, 512 bytes 7 from 0, 512 bytes 8 from 1024\n",
        "| examples that reopen a node while a job is alive | 4 |\n",
        "| examples that compare a guest's data | 5 |\n",
        "| states that jobs came to | created 2, running 1 |\n",
    ):
        assert told in page
    assert "\n\n\n" not in page
    assert "after it, as expected: `" not in markdown.render(SUMMARY)
    none = attrs.evolve(run, job_states=(("created", 0),), findings=())
    assert "| states that jobs came to | none |\n" in markdown.render(none)


@pytest.mark.parametrize("text", ['a"b', "a<b>", "a#b", "a\nb"])
def test_mermaid_escapes(text: str) -> None:
    told = mermaid.escape(text)
    assert not set('"<>\n') & set(told)


def test_letters() -> None:
    assert mermaid.letters(["resize", "write", "write-unchanged", "consistent-read"]) == "rwus"
    assert mermaid.letters([]) == "-"
    assert mermaid.letters(["graph-mod"]) == "[graph-mod]"


def test_markdown_tells_everything() -> None:
    page = markdown.render(SUMMARY, {FINDING.signature: "x.sh"})
    for told in (
        "# reopencheck diff: qemu-7.2 against 7.2.22",
        "**Something did not hold**: 3 divergences",
        "| commands | 100 (60 accepted, 40 refused) |",
        "| rules reached | 2 of 3 |",
        "- `a.three`: Three holds.",
        "- `a.two`: Two holds.",
        "- a note",
        "seen in 3 examples",
        "- case: `out/cases/x.json`",
        "- shown by: `sh x.sh`",
        "backing file `base.raw`",
        "   - expected: `success`",
        "   - got: `GenericError: x | y`",
        "at step 2, `reply`",
    ):
        assert told in page
    assert page.count("```mermaid\n") == 3
    assert "no nodes" in page.split("After it, as expected")[1].split("After it, as seen")[0]
    assert "\n\n\n" not in page, page


def test_what_the_laws_saw() -> None:
    watched = attrs.evolve(CLEAN, command="check", witnesses=(("it rained", 3), ("it snowed", 0)))
    assert watched.unseen == ("it snowed",)
    assert "- it rained: 3\n- it snowed: **never**\n" in markdown.render(watched)


def test_markdown_of_a_clean_run() -> None:
    page = markdown.render(CLEAN)
    assert "**Everything held.**" in page
    assert "Finding" not in page
    assert "never refused" not in page
    assert "interrupted" not in page
    assert "interrupted" in markdown.render(attrs.evolve(CLEAN, interrupted=True))


def test_markdown_of_a_death() -> None:
    dead = attrs.evolve(
        FINDING,
        kind="crash",
        difference=None,
        stderr=("block.c:1: Assertion `x' failed.",),
        steps=(FINDING.steps[0], attrs.evolve(FINDING.steps[1], got=None)),
    )
    page = markdown.render(attrs.evolve(SUMMARY, findings=(dead,), crashes=1))
    assert "   - got: `no reply`" in page
    assert "    block.c:1: Assertion `x' failed." in page
    assert "not observed" in page


def test_code_spans_hold_any_text() -> None:
    assert markdown.code("a") == "`a`"
    assert markdown.code("`a`") == "`` `a` ``"
    assert markdown.code("a``b") == "```a``b```"
    assert markdown.code("") == "` `"
    assert markdown.code("a\n# b") == "`a # b`"


def test_junit() -> None:
    root = ET.fromstring(junit.render(SUMMARY))  # noqa: S314  # our own document
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "2", "0")
    held = ET.fromstring(junit.render(CLEAN)).find("testsuite")  # noqa: S314
    assert held is not None
    assert (held.get("tests"), held.get("failures")) == ("1", "0")


def test_junit_of_a_death_is_an_error_and_any_text_is_xml() -> None:
    dead = attrs.evolve(FINDING, kind="crash", title="a \x00 <b> \ud800")
    root = ET.fromstring(junit.render(attrs.evolve(SUMMARY, findings=(dead,))))  # noqa: S314
    assert root.find("testsuite/testcase/error") is not None
