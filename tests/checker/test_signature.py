# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures tell kinds apart and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from checker.compare import ABSENT, StepMismatch
from checker.signature import names_in, normalised, of_death, of_divergence
from model.values.trace import ImageSpec, Observation, Trace


def traced(node: str, image: str) -> Trace:
    command: dict[str, Any] = {
        "execute": "blockdev-add",
        "arguments": {"node-name": node, "file": {"filename": image}, "x.node-name": "deep"},
    }
    return Trace((ImageSpec(image, "raw", 1),), (command,))


def signed(trace: Trace, path: str, expected: object, got: object, text: str = "") -> str:
    seen = Observation({"error": {"class": "C", "desc": text}}, None, None)
    return of_divergence(
        trace,
        StepMismatch(0, path, expected, got),
        "rule.x",
        Observation({"return": {}}, [], {}),
        seen,
    )


def test_names_and_numbers_do_not_matter() -> None:
    one = signed(traced("n0", "hd0.raw"), "reply", 1, 2, "Node 'n0' on hd0.raw: 12 > -3, #block017")
    two = signed(traced("n11", "hd5.raw"), "reply", 1, 2, "Node 'n11' on hd5.raw: 2 > 4, #block9")
    assert one == two == "blockdev-add | reply | rule.x | success | C: Node '*' on *: N > N, *"


def test_words_do_matter() -> None:
    trace = traced("n0", "hd0.raw")
    assert signed(trace, "reply", 1, 2, "Cannot a") != signed(trace, "reply", 1, 2, "Cannot b")


def test_places_are_places_without_their_names() -> None:
    assert (
        signed(traced("n0", "a"), "nodes[n0].image.virtual-size", 1024, 512)
        == "blockdev-add | nodes[].image.virtual-size | rule.x | N | N"
    )
    assert signed(traced("n0", "a"), "nodes[n0].ro", None, ABSENT).endswith("| None | (absent)")
    assert signed(traced("n0", "a"), "graph.edges", ["n0.file -> b"], []).endswith("edges | rule.x")
    assert signed(traced("n0", "a"), "graph.edges[n0.file].perm", ["write"], []).endswith(
        "graph.edges[].perm | rule.x | write | none"
    )
    assert signed(traced("n0", "a"), "nodes[n0].image", {}, 1).endswith("| ... | N")


def test_names_in_a_trace() -> None:
    assert names_in(traced("n0", "hd0.raw")) == {"n0", "hd0.raw", "deep"}
    assert names_in(Trace((), ({}, {"arguments": 3}, {"arguments": [{"id": "t"}]}))) == {"t"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("options[3].file", "options[N].file"),
        ("at 0x7ffe12", "at N"),
        ("qcow2", "qcow2"),
        ("n0 n01 xn0", "* n01 xn0"),
    ],
)
def test_normalised(text: str, expected: str) -> None:
    assert normalised(text, ["n0"]) == expected


def test_death() -> None:
    trace = traced("n0", "hd0.raw")
    assert of_death(trace, 0, "crash", "SIGABRT", "x.c:12: n0") == (
        "blockdev-add | crash | SIGABRT | x.c:N: *"
    )
    assert of_death(trace, 1, "exit", "status 1", "") == "quit | exit | status 1 | "


def test_jobs_and_exports_are_names() -> None:
    commands: tuple[dict[str, Any], ...] = (
        {
            "execute": "block-commit",
            "arguments": {"device": "n0", "job-id": "j7", "filter-node-name": "f"},
        },
        {"execute": "block-export-add", "arguments": {"id": "e3", "name": "x", "node-name": "n0"}},
        {"execute": "nbd-server-start", "arguments": {"addr": {"data": {"path": "s.sock"}}}},
    )
    assert names_in(Trace((), commands)) == {"j7", "f", "e3", "x", "n0", "s.sock"}


def test_a_wait_is_told_by_what_it_waits_for() -> None:
    def wait(job: str) -> dict[str, Any]:
        return {"execute": "reopencheck-wait", "arguments": {"id": job, "status": "ready"}}

    def text(job: str) -> str:
        return f"Job '{job}' does not come to the status 'ready' but to 'null'"

    def signed_wait(job: str) -> str:
        trace = Trace(
            (),
            (
                {"execute": "blockdev-mirror", "arguments": {"job-id": job}},
                wait("other"),
                wait(job),
            ),
        )
        seen = Observation({"error": {"class": "C", "desc": text(job)}}, None, None)
        good = Observation({"return": {}}, None, None)
        mismatch = StepMismatch(2, "reply", good.reply, seen.reply)
        assert of_death(trace, 1, "hang", "no reply in time", "").startswith(
            "blockdev-mirror, waiting | hang"
        )
        return of_divergence(trace, mismatch, "accepted", good, seen)

    assert signed_wait("j0") == signed_wait("job-11")
    assert signed_wait("j0") == (
        "blockdev-mirror, waiting | reply | accepted | success | "
        "C: Job '*' does not come to the status 'ready' but to 'null'"
    )
