# SPDX-License-Identifier: GPL-2.0-or-later
"""How the tests run: the same each time, in an order that keeps all workers busy.

With pytest-xdist (``-n``), a module that needs no daemon stays on one worker, because such modules
cache what they generate. The tests in tests/real/ are given out one by one: many of them wait for a
daemon, and meanwhile others compute.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

REAL = Path(__file__).parent / "real"
IN_REAL = "tests/real/"

SLOW = 5.0
"""Seconds after which a test is named while the others go on."""

WORKERS_PER_CORE = 2
"""Tests that wait for a daemon leave their core to others."""

MOST_WORKERS = 12
"""Each collects all tests for itself, which takes as long as hundreds of tests."""

# No examples from earlier runs, none by chance, and nothing that depends on how busy the host is.
settings.register_profile(
    "reopencheck",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("reopencheck")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a daemon, and put long tests first.

    The modules that need no daemon come first, and of them those with slow tests. In tests/real/
    the slow tests come first, and then the modules with few tests: the corpora, hundreds of short
    replays, fill the gaps at the end.
    """
    for item in items:
        if item.path.is_relative_to(REAL):
            item.add_marker(pytest.mark.real)
    sizes = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item: pytest.Item) -> tuple[bool, bool, int]:
        if item.path.is_relative_to(REAL):
            return True, item.get_closest_marker("slow") is None, sizes[item.path]
        return False, item.path not in slow, 0  # in one piece: it shares what it caches

    items.sort(key=turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Say how many workers ``-n auto`` means; ``-n logical`` means one for each core."""
    if config.option.numprocesses != "auto":
        return None
    return min(WORKERS_PER_CORE * (os.cpu_count() or 1), MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Give out modules or single tests, in the order of `pytest_collection_modifyitems`."""
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415  # pytest works without it

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _given_out_with
    return scheduler


def _given_out_with(nodeid: str) -> str:
    """Name what a test is given out with: itself, or its module."""
    return nodeid if nodeid.startswith(IN_REAL) else nodeid.partition("::")[0]


class SlowTests:
    """Names each test that took long as soon as it is done, between the dots."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._seconds: defaultdict[str, float] = defaultdict(float)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up a test's setup, call and teardown."""
        self._seconds[report.nodeid] += report.duration
        if report.when == "teardown":
            seconds = self._seconds.pop(report.nodeid)
            if seconds >= SLOW:
                self._reporter.ensure_newline()
                self._reporter.write_line(f"{seconds:6.1f} s  {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(SlowTests(reporter))
