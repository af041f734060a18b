# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends a finished trace to a storage daemon and collects what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from targets.daemon import TIMEOUT, Daemon
from targets.exchange import PATIENCE, Exchange
from targets.requests import EXPORTS, GRAPH, JOBS, NODES

if TYPE_CHECKING:
    from model.values.trace import Observation, Trace

    from targets.deaths import Death

__all__ = ["EXPORTS", "GRAPH", "JOBS", "NODES", "PATIENCE", "Exchange", "Replay", "replay"]


@attrs.frozen
class Replay:
    """What a daemon showed of a trace.

    One observation per command that was answered, in order, and the death that ended the
    replay early, or None. If the daemon died while the graph was being asked for, the
    last observation has the reply and lacks the graph.
    """

    observations: tuple[Observation, ...]
    death: Death | None = None


def replay(
    daemon: Daemon,
    trace: Trace,
    *,
    observe: bool = True,
    lockstep: bool = False,
    timeout: float = TIMEOUT,
) -> Replay:
    """Send a trace's commands to a daemon whose directory holds the trace's images.

    Returns an observation for each command, with the graph after it if `observe` is set. A
    daemon that dies or falls silent for `timeout` seconds is a value, not an exception; it is
    gone afterwards. Nothing is removed after the trace: see `targets.pool.Target`.
    """
    daemon.mark()
    observed = len(trace.commands) if observe else 0
    exchange = Exchange(daemon, trace.commands, observed=observed, lockstep=lockstep)
    death = exchange.finish(timeout)
    return Replay(exchange.observations(), death)
