# SPDX-License-Identifier: GPL-2.0-or-later
"""The rooms of the spec: each module can be imported by itself, and imports go round nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grimp
import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[2]

ALONE = """
import importlib, json, os, sys, types

root, package, *preloaded = sys.argv[1:]
sys.path.insert(0, root)
for name in preloaded:
    importlib.import_module(name)
broken = {}
for name in json.load(sys.stdin):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # What the face of the package imports first must not matter.
        bare = types.ModuleType(package)
        bare.__path__ = [os.path.join(root, package)]
        sys.modules[package] = bare
        error = ""
        try:
            importlib.import_module(name)
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
        os.write(writing, error.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        error = told.read().decode()
    os.waitpid(child, 0)
    if error:
        broken[name] = error
print(json.dumps(broken))
"""
"""Imports each of the modules named on stdin in a process that has imported nothing of the package;
what the modules need from elsewhere is loaded once, before the processes part."""


def modules_of(root: Path, package: str) -> list[str]:
    """The modules of a package but the package itself."""
    found = []
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name != package:
            found.append(name)
    return found


def not_alone(root: Path, package: str, *preloaded: str) -> dict[str, str]:
    """The modules that cannot be imported by themselves, with the error that says so."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(root), package, *preloaded],
        input=json.dumps(modules_of(root, package)),
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    broken: dict[str, str] = json.loads(done.stdout)
    return broken


def ring(package: str) -> list[str]:
    """Modules that import each other in a ring, those imported for their types included."""
    imports = grimp.build_graph(package, cache_dir=None)
    graph = nx.DiGraph()
    for name in imports.modules:
        graph.add_edges_from(
            (name, other) for other in imports.find_modules_directly_imported_by(name)
        )
    rings = [sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1]
    return max(rings, key=len, default=[])


@pytest.mark.slow
def test_each_module_can_be_imported_alone() -> None:
    assert len(modules_of(ROOT, "model")) > 70
    assert not_alone(ROOT, "model", "attrs", "json", "typing", "re") == {}


def test_no_modules_import_each_other_in_a_ring() -> None:
    assert ring("model") == []


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two modules that import each other, one for its types only."""
    package = tmp_path / "planted_ring"
    package.mkdir()
    (package / "__init__.py").write_text("from planted_ring import one\n", encoding="utf-8")
    typed = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from planted_ring.two import B\n"
    )
    (package / "one.py").write_text(f"{typed}class A: pass\n", encoding="utf-8")
    (package / "two.py").write_text(
        "from planted_ring.one import A\nclass B(A): pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_a_ring_of_types_is_found(planted: Path) -> None:
    assert ring("planted_ring") == ["planted_ring.one", "planted_ring.two"]


def test_a_module_that_needs_another_one_first_is_found(planted: Path) -> None:
    assert not_alone(planted.parent, "planted_ring") == {}
    (planted / "one.py").write_text(
        "from planted_ring.two import B\nclass A: pass\n", encoding="utf-8"
    )
    broken = not_alone(planted.parent, "planted_ring")
    assert sorted(broken) == ["planted_ring.one", "planted_ring.two"]
    assert "circular import" in broken["planted_ring.one"]
