# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions about the graph, answered by networkx and not by the spec that is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from model import BlockState

# networkx takes longer to load than all else: only who judges a graph loads it.


def cycle(state: BlockState) -> list[str]:
    """The nodes of a cycle, each the parent of the next one; none if there is no cycle."""
    import networkx as nx  # noqa: PLC0415  # see above

    graph = state.to_networkx()
    if nx.is_directed_acyclic_graph(graph):
        return []
    return [edge[0] for edge in nx.find_cycle(graph)]


def parts(state: BlockState) -> list[set[str]]:
    """The names of the nodes that hang together, part by part."""
    import networkx as nx  # noqa: PLC0415  # see above

    return list(nx.weakly_connected_components(state.to_networkx()))


def below(state: BlockState, names: Iterable[str]) -> set[str]:
    """The nodes ``names`` and all that lie below one of them."""
    import networkx as nx  # noqa: PLC0415  # see above

    graph = state.to_networkx()
    return {found for name in names for found in (name, *nx.descendants(graph, name))}
