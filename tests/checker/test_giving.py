# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of options in a reopen: known answers of the model, and that none is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checker.giving import Outcome, Trial, Untried, changes, grouped, trials
from checker.parties import Model
from model import find_dialect
from model.release.schema import Schema
from strategies.openable import OPENINGS, again, choices, with_option

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALECT = find_dialect("qemu-7.2")


def every(*drivers: str) -> Iterator[Trial | Untried]:
    return trials(DIALECT.schema.types, Model(DIALECT).observe, drivers)


def outcomes(driver: str, how: str) -> dict[tuple[str, Any], str]:
    return {
        (each.option, str(each.value)): str(each.outcome)
        for each in every(driver)
        if isinstance(each, Trial) and each.how == how
    }


def test_the_same_options_are_taken_again_but_for_two() -> None:
    told = outcomes("file", "same")
    refused = {option for (option, _), outcome in told.items() if outcome != "as before"}
    assert refused == {"force-share", "aio-max-batch"}
    assert told["locking", "on"] == told["cache.direct", "True"] == "as before"
    assert told["force-share", "True"] == "refused: Cannot change the option 'force-share'"


def test_what_is_left_out_is_reset_or_missed() -> None:
    told = outcomes("file", "left out")
    assert told["cache.direct", "True"] == "n.cache.direct: True -> False"
    assert told["read-only", "True"] == "n.ro: True -> False"
    assert told["read-only", "False"] == "as before"
    assert told["locking", "on"] == (
        "refused: Option 'locking' cannot be reset to its default value"
    )


def test_a_child_loses_what_it_had_from_its_parent() -> None:
    told = outcomes("raw", "child")
    assert told["cache.direct (file)", "True"] == "f.cache.direct: True -> False"
    assert told["cache.direct (file)", "False"] == "as before"
    assert outcomes("qcow2", "child")["detect-zeroes (backing)", "on"] == "z.ro: True -> False"
    kept = outcomes("raw", "parent")
    assert kept["cache.direct (file)", "True"] == "as before"
    assert "force-share" in kept["force-share (file)", "False"]


def test_a_driver_that_refuses_is_told_once() -> None:
    (told,) = every("copy-on-read")
    assert isinstance(told, Untried)
    assert told.refuses
    assert "does not support reopening files" in told.why


def test_what_is_not_to_be_had_is_said() -> None:
    (told,) = every("iscsi")
    assert isinstance(told, Untried)
    assert not told.refuses
    assert ("file", "pr-manager") in {
        (each.driver, each.option) for each in every("file") if isinstance(each, Untried)
    }


@pytest.mark.parametrize("name", ["qemu-7.2", "qemu-10.0", "qemu-11.1"])
def test_every_option_of_the_schema_is_a_choice(name: str) -> None:
    types = Schema.load(name).types
    variants = types["blockdev-add.arg"]["variants"]
    assert OPENINGS.keys() <= variants.keys()
    for driver in OPENINGS:
        members = [
            *types["blockdev-add.arg"]["members"],
            *types[variants[driver]]["members"],
        ]
        children = {"BlockdevRef", "BlockdevRefOrNull", "[BlockdevRef]"}
        expected = {each["name"] for each in members if each["type"] not in children}
        given = {"driver", "node-name", *OPENINGS[driver].options}
        assert {each.path[0] for each in choices(types, driver)} == expected - given


def test_options_at_any_depth() -> None:
    assert with_option({"cache": {"a": 1}}, ("cache", "b"), 2) == {"cache": {"a": 1, "b": 2}}
    child = {"driver": "file", "node-name": "f"}
    inline = {"driver": "quorum", "children": [child], "file": child, "list": [{"x": 1}]}
    named = {"driver": "quorum", "children": ["f"], "file": "f", "list": [{"x": 1}]}
    assert again(inline) == named


def test_changes_are_told_node_by_node() -> None:
    before: list[dict[str, Any]] = [
        {"node-name": "n", "image": {"size": 1, "actual-size": 1}, "a": 1},
        {"node-name": "#block1", "ro": True},
    ]
    after: list[dict[str, Any]] = [
        {"node-name": "n", "image": {"size": 2, "actual-size": 2}, "b": 1},
    ]
    assert list(changes(before, after)) == [
        "n.image.size: 1 -> 2",
        "n.a: 1 -> None",
        "n.b: None -> 1",
        "(unnamed) is gone",
    ]
    assert list(changes(after, before))[-1] == "(unnamed) is new"


def test_groups_tell_of_what_did_not_stay() -> None:
    found = [each for each in every("file", "null-co") if isinstance(each, Trial)]
    groups = list(grouped(found))
    assert [each.how for each in groups] == sorted(
        (each.how for each in groups), key=["same", "left out", "child", "parent"].index
    )
    reset = next(each for each in groups if each.outcome == "n.ro: True -> False")
    assert reset.options == ("read-only true (file, null-co)",)
    assert str(Outcome()) not in {each.outcome for each in groups}
