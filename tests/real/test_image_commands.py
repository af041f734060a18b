# SPDX-License-Identifier: GPL-2.0-or-later
"""``Monitor.images`` does what ``qemu-img`` does, on every release."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from model import find_dialect
from tests.real.image_cases import CASES
from tests.real.image_twins import Programs, Twins, programs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from model import Dialect
    from targets.builds.binaries import Build
    from tests.real.image_twins import Operation

RELEASES = ("5.2", "7.2", "10.0", "11.1")
NAMES = ("a", "b", "c", "d")
FORMATS = st.sampled_from(["raw", "qcow2"])
SIZES = st.sampled_from([512, 1000, 65_536, 100_000, 196_608, 1 << 20, 1_500_000, "2M", 3 << 20])


@pytest.fixture(params=RELEASES)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return find_dialect(f"qemu-{request.param}")


@pytest.fixture
def programs(dialect: Dialect, build_of: Callable[[Dialect], Build]) -> Programs:
    return programs_of(build_of(dialect))


@pytest.mark.parametrize("case", CASES)
def test_a_kept_case(case: str, dialect: Dialect, programs: Programs, tmp_path: Path) -> None:
    twins = Twins(dialect, programs, tmp_path)
    done = [twins.do(operation) for operation in CASES[case]]
    assert set(done) - {"unmodelled"}
    twins.look()


def operations(names: st.SearchStrategy[str]) -> dict[str, st.SearchStrategy[Operation]]:
    """What may be done, by its verb, with images of these names."""

    def build(verb: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Operation]:
        return st.tuples(st.just(verb), st.fixed_dictionaries(arguments))

    kind = st.sampled_from([None, None, None, "raw", "qcow2"])
    sizes = SIZES | st.sampled_from([0, "+64K", "-64K", "+1M", "-1000", "+512"])
    starts, lengths = st.sampled_from([0, 512, 65_000]), st.sampled_from([None, 1, 70_000])
    strict = st.booleans()
    return {
        "info": build("info", name=names, format=kind),
        "map": build("map", name=names, format=kind, start_offset=starts, max_length=lengths),
        "compare": build("compare", first=names, second=names, strict=strict, format=kind),
        "resize": build("resize", name=names, size=sizes, shrink=st.booleans()),
    }


CALLS = operations(st.sampled_from(NAMES))


class ImageMachine(RuleBasedStateMachine):
    """Does the same to the model's images and to real files, which then must look alike."""

    dialect: Dialect
    programs: Programs

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.twins = Twins(self.dialect, self.programs, Path(self._directory.name))

    def teardown(self) -> None:
        self.twins.look()
        self._directory.cleanup()

    @initialize(kind=FORMATS, other=FORMATS, size=SIZES, sizes=st.tuples(SIZES, SIZES))
    def begin(self, kind: str, other: str, size: Any, sizes: tuple[Any, Any]) -> None:
        """Begin with a chain of three images and one beside it."""
        self.twins.do(("create", {"name": "a", "format": kind, "size": size}))
        self.overlay("b", "a", sizes[0])
        self.overlay("c", "b", None)
        self.twins.do(("create", {"name": "d", "format": other, "size": sizes[1]}))

    @rule(name=st.sampled_from(NAMES), backing=st.sampled_from(NAMES), size=st.none() | SIZES)
    def overlay(self, name: str, backing: str, size: Any) -> None:
        given = {"name": name, "format": "qcow2", "size": size, "backing": backing}
        given |= {"backing_format": self.twins.format_of(backing), "unsafe": False}
        self.twins.do(("create", given))

    @rule(name=st.sampled_from(NAMES), kind=FORMATS, size=SIZES)
    def create(self, name: str, kind: str, size: Any) -> None:
        self.twins.do(("create", {"name": name, "format": kind, "size": size}))

    @rule(
        name=st.sampled_from(NAMES),
        start=st.integers(0, 1 << 22) | st.integers(0, 48).map(lambda index: index << 16),
        length=st.integers(1, 1 << 18) | st.sampled_from([512, 4096, 65_536, 131_072]),
        pattern=st.sampled_from([0, 1, 255]),
    )
    def write(self, name: str, start: int, length: int, pattern: int) -> None:
        size = self.twins.images[name].size if name in self.twins.images else 0
        if size < 512:
            return
        start %= size
        given = {"name": name, "offset": start, "length": min(length, size - start)}
        self.twins.do(("write", {**given, "pattern": pattern}))

    @rule(
        name=st.sampled_from(NAMES),
        backing=st.none() | st.sampled_from(NAMES),
        unsafe=st.booleans(),
    )
    def rebase(self, name: str, backing: str | None, *, unsafe: bool) -> None:
        given: dict[str, Any] = {"name": name, "backing": backing, "unsafe": unsafe}
        if backing is not None:
            given["backing_format"] = self.twins.format_of(backing)
        self.twins.do(("rebase", given))

    @rule(call=st.one_of(*CALLS.values()))
    def call(self, call: Operation) -> None:
        verb, arguments = call
        if verb == "resize":
            arguments = {**arguments, "format": self.twins.format_of(arguments["name"])}
        self.twins.do((verb, arguments))

    @invariant()
    def the_longest_chain_looks_alike(self) -> None:
        if "c" in self.twins.images:
            self.twins.do(("map", {"name": "c"}))


@pytest.mark.slow
def test_random_operations(dialect: Dialect, programs: Programs) -> None:
    machine = type("Machine", (ImageMachine,), {"dialect": dialect, "programs": programs})
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=15))


@pytest.mark.parametrize("planted", ["length", "offset", "depth"])
def test_the_comparison_can_fail(
    planted: str, monkeypatch: pytest.MonkeyPatch, build: Build, tmp_path: Path
) -> None:
    twins = Twins(find_dialect(f"qemu-{build.release}"), programs_of(build), tmp_path)
    for operation in CASES["a part of a map"][:2]:
        assert twins.do(operation) == "ok"
    honest = twins.images.map("a")
    wrong = [{**honest[0], planted: 4096}, *honest[1:]]
    assert twins.do(("map", {"name": "a"})) == "ok"
    monkeypatch.setattr(twins.images, "map", lambda **_given: wrong)
    with pytest.raises(AssertionError, match="is not"):
        twins.do(("map", {"name": "a"}))
