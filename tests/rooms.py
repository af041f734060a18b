# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of every package: its modules can be imported alone, and form no ring."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).parents[1]

_FORKS = """
import importlib, json, os, sys, types
import attrs, click, hypothesis, jinja2, junitparser, msgspec, networkx, rich  # not ours

root, package, *below = sys.argv[1:]
for name in below:
    importlib.import_module(name)
failed = {}
for name in json.load(sys.stdin):
    out, into = os.pipe()
    child = os.fork()
    if not child:
        os.close(out)
        os.dup2(into, 2)
        if name != package:
            # What the face of the package imports first must not matter.
            bare = sys.modules[package] = types.ModuleType(package)
            bare.__path__ = [os.path.join(root, package)]
        status = 1
        try:
            importlib.import_module(name)
            status = 0
        except BaseException as error:
            os.write(into, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(status)
    os.close(into)
    with open(out) as said:
        words = said.read()
    if os.waitpid(child, 0)[1]:
        failed[name] = words
json.dump(failed, sys.stdout)
"""
"""A program that imports each module in a process of its own, the package itself left empty."""


def modules(package: str, root: Path = ROOT) -> list[str]:
    """The names of all modules of a package in `root`, itself included, but for its programs."""
    names = []
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def cannot_be_imported_alone(package: str, *below: str, root: Path = ROOT) -> dict[str, str]:
    """Which modules cannot be the first of the package that a process imports, and what they say.

    The packages `below` are there already, to save time: none of them imports `package`.
    """
    done = subprocess.run(
        [sys.executable, "-c", _FORKS, str(root), package, *below],
        cwd=root,
        input=json.dumps(modules(package, root)),
        capture_output=True,
        text=True,
        check=True,
    )
    failed: dict[str, str] = json.loads(done.stdout)
    return failed


def rings(package: str) -> list[set[str]]:
    """The modules of a package that import each other, also for their types only, ring by ring."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = nx.DiGraph(
        (name, other)
        for name in graph.modules
        for other in graph.find_modules_directly_imported_by(name)
    )
    return [ring for ring in nx.strongly_connected_components(imports) if len(ring) > 1]
