# SPDX-License-Identifier: GPL-2.0-or-later
"""How the tests are given out to workers, and what is said of the slow ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import settings
from xdist.remote import Producer

from tests import conftest

HERE = Path(conftest.__file__).parent


@attrs.define(eq=False)
class Worker:
    """What the scheduler wants of a worker of pytest-xdist."""

    given: list[int] = attrs.Factory(list)
    shutting_down: bool = False
    gateway: SimpleNamespace = attrs.Factory(lambda: SimpleNamespace(id="gw0"))

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@attrs.define(eq=False)
class Item:
    """What the order is made of."""

    path: Path
    slow: bool = False
    marks: list[str] = attrs.Factory(list)

    def get_closest_marker(self, name: str) -> str | None:
        return name if self.slow and name == "slow" else None

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.name)


def given_out(tests: list[str], workers: int) -> list[list[str]]:
    """What each worker gets at first."""
    config: Any = SimpleNamespace(
        option=SimpleNamespace(loadscopereorder=True),
        getvalue=lambda _name: ["popen"] * workers,
    )
    scheduler: Any = conftest.pytest_xdist_make_scheduler(config, Producer("test"))
    crew = [Worker() for _ in range(workers)]
    for worker in crew:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    return [[tests[index] for index in worker.given] for worker in crew]


def test_modules_stay_together_but_for_those_that_wait() -> None:
    pure = [f"tests/model/test_a.py::test_{n}[x::y]" for n in range(4)]
    real = [f"tests/real/test_b.py::test_{n}" for n in range(8)]
    first, second = given_out([*pure, *real], 2)
    assert first == pure
    assert second == real[:2]


def test_the_order_is_kept_when_a_later_module_is_larger() -> None:
    small, large = ["tests/a.py::test_0"], [f"tests/b.py::test_{n}" for n in range(9)]
    assert given_out([*small, *large], 2) == [small, large]


def test_slow_modules_come_first_and_corpora_last() -> None:
    plain, slow = Item(HERE / "a.py"), [Item(HERE / "b.py"), Item(HERE / "b.py", slow=True)]
    corpus = [Item(HERE / "real" / "a.py") for _ in range(3)]
    few = [Item(HERE / "real" / "b.py"), Item(HERE / "real" / "b.py", slow=True)]
    items: list[Any] = [*corpus, plain, *slow, *few]
    conftest.pytest_collection_modifyitems(items)
    assert items == [*slow, plain, few[1], few[0], *corpus]
    assert [item.marks for item in items] == [[]] * 3 + [["real"]] * 5


@pytest.mark.parametrize(("cores", "workers"), [(1, 2), (2, 4), (64, 12), (None, 2)])
def test_there_are_more_workers_than_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    config: Any = SimpleNamespace(option=SimpleNamespace(numprocesses="auto"))
    assert conftest.pytest_xdist_auto_num_workers(config) == workers
    config.option.numprocesses = "logical"
    assert conftest.pytest_xdist_auto_num_workers(config) is None


def test_a_slow_test_is_named() -> None:
    lines: list[str] = []
    reporter: Any = SimpleNamespace(ensure_newline=lambda: None, write_line=lines.append)
    named = conftest.SlowTests(reporter)
    for nodeid, seconds in (("a", 2.0), ("b", 0.5)):
        for when in ("setup", "call", "teardown"):
            report: Any = SimpleNamespace(nodeid=nodeid, duration=seconds, when=when)
            named.pytest_runtest_logreport(report)
    assert lines == ["   6.0 s  a"]


def test_nothing_that_hypothesis_does_depends_on_the_host() -> None:
    chosen = settings()
    assert (chosen.derandomize, chosen.database, chosen.deadline) == (True, None, None)
