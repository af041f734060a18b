# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is compared: what a name stands for, and how waits are taken out of what is seen."""

from __future__ import annotations

import pytest

from checker.errors import CheckerError
from checker.parties import Model, find_party, folded, plain, said, written_for
from model import find_dialect
from model.release.dialect import NoSuchDialectError
from model.values.trace import ImageSpec, Observation, Trace

DIALECT = find_dialect("qemu-7.2")


def streaming() -> Trace:
    """A trace that has a job to wait for."""
    file = {"driver": "file", "filename": "a.qcow2"}
    node = {"driver": "qcow2", "node-name": "n", "file": file, "backing": {"driver": "null-co"}}
    return Trace(
        (ImageSpec("a.qcow2", "qcow2", 65536),),
        (
            {"execute": "blockdev-add", "arguments": node},
            {"execute": "block-stream", "arguments": {"device": "n", "job-id": "j"}},
            {"execute": "query-block-jobs"},
        ),
    )


def test_a_dialect_goes_before_a_build() -> None:
    party = find_party("qemu-7.2")
    assert isinstance(party, Model)
    assert (party.name, party.real, party.release) == ("qemu-7.2", False, "7.2")


@pytest.mark.parametrize("name", ["omission-keeps", "qemu-7.2 without reopen.unchanged"])
def test_what_no_release_says_has_no_build(name: str) -> None:
    party = find_party(name)
    assert isinstance(party, Model)
    assert party.release is None


def test_neither_a_dialect_nor_a_build() -> None:
    for name, says in (("qemu-9.9", "no such binary in PATH"), ("9.9", "there is no QEMU 9.9")):
        with pytest.raises(CheckerError) as caught:
            find_party(name)
        assert str(caught.value).startswith(f"no dialect is called '{name}'; there are: ")
        assert f"; and no build: {says}" in str(caught.value)
    with pytest.raises(NoSuchDialectError, match="no rule"):
        find_party("qemu-7.2 without no.rule")


def test_waits_are_put_in_and_taken_out() -> None:
    trace = streaming()
    written = written_for(trace, DIALECT)
    assert len(written.commands) > len(trace.commands)
    assert plain(written) == trace


def test_what_is_seen_while_waiting_counts_for_the_command() -> None:
    trace = streaming()
    written = written_for(trace, DIALECT)
    model = Model(DIALECT)
    seen = model.observe(written)
    whole = list(folded(written, seen))
    assert [each.reply for each in whole] == [
        answer.observation.reply for answer in model.ask(trace)
    ]
    assert [each.nodes for each in whole] == [
        answer.observation.nodes for answer in model.ask(trace)
    ]
    # Where waiting was cut short, the command has not been answered.
    assert len(list(folded(written, seen[:2]))) == 1


def test_folding_keeps_every_event() -> None:
    written = written_for(streaming(), DIALECT)
    events = [({"event": str(n)},) for n in range(len(written.commands))]
    seen = [Observation({"return": n}, [], {}, each) for n, each in enumerate(events)]
    whole = list(folded(written, seen))
    assert [each.reply["return"] for each in whole] == [0, 1, len(events) - 1]
    assert sum((each.events for each in whole), ()) == sum(events, ())


def test_two_releases_are_asked_step_by_step_in_their_own_words() -> None:
    old = find_dialect("qemu-5.2")
    group = {"qom-type": "throttle-group", "id": "tg0"}
    node = {"driver": "null-co", "node-name": "n"}
    trace = Trace(
        (),
        (
            {"execute": "blockdev-add", "arguments": node},
            {"execute": "object-add", "arguments": group},
            {"execute": "x-blockdev-reopen", "arguments": node},
        ),
    )
    both = plain(trace, old, DIALECT)
    # What 5.2 has from its start both have, and the newer words are those of the trace.
    names = [command["execute"] for command in both.commands]
    assert names == ["reopencheck-object", "blockdev-add", "blockdev-reopen"]
    assert [command["execute"] for command in said(both, old).commands][2] == "x-blockdev-reopen"
    for dialect in (old, DIALECT):
        replies = [answer.observation.reply for answer in Model(dialect).ask(both)]
        assert replies[1:] == [{"return": {}}] * 2
