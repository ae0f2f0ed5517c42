"""Goals of the memory benchmark, checked against its figures."""

from __future__ import annotations

from typing import Any

from burnish.learner.compactor.evaluation import BudgetPoint, least_budget
from burnish.ops.bench.lib.memory_talk import SHARES, with_peer
from burnish.ops.bench.lib.results import MustShow

AHEAD = 0.05  # of evidence kept, of the best other
# Share of the tokens -> the score on worlds before talk was trained on.
WORLDS = {0.05: 0.938, 0.1: 0.993, 0.2: 1.0}


def check_goals(figures: dict[str, Any]) -> list[MustShow]:
    """Each goal with its measured value, its bound, and whether it was met."""
    enough, long = figures["enough"], figures["enough_long"]
    ours = enough["learned"] or 1.0
    best = min((share or 1.0 for name, share in enough.items() if name != "learned"), default=1.0)
    for points in peer_scores(figures).values():
        best = min(best, _enough_of(points) or 1.0)
    ruler = min(figures["ruler"]["learned"].values())
    latency = figures["latency"]
    small, large = latency[min(latency, key=int)], latency[max(latency, key=int)]
    grown = large["append_ms"]["p95"] / small["append_ms"]["p95"]
    crossed = figures["tenants"]["crossed"]
    goals = [
        _goal("tokens for 98% of the score, learned", ours, "<= 0.10", ours <= 0.1),
        _goal("... against the best other", ours / best, "<= 0.5", ours <= 0.5 * best),
        _goal(
            "... at 10x the horizon, against 1x",
            (long["learned"] or 1.0) / ours,
            "<= 1.5",
            (long["learned"] or 1.0) <= 1.5 * ours,
        ),
        _goal("needles and variables", ruler, ">= 0.99", ruler >= 0.99),
        _goal(
            "facts lost by ten compactions, learned",
            figures["recompacted"]["learned"]["lost_by_10"],
            "0",
            figures["recompacted"]["learned"]["lost_by_10"] == 0,
        ),
        _goal("append p95, ms", large["append_ms"]["p95"], "<= 5", large["append_ms"]["p95"] <= 5),
        _goal("... against 100 steps", grown, "<= 1.2", grown <= 1.2),
        _goal(
            "context p95, ms", large["context_ms"]["p95"], "<= 25", large["context_ms"]["p95"] <= 25
        ),
        _goal("texts of other tenants", crossed, "0", crossed == 0),
    ]
    goals += _world_goals(figures)
    goals += _talk_goals(figures)
    goals += [
        _goal(f"context p95 by {name}, 10,000 steps, ms", ms, "<= 25", ms <= 25)
        for name, found in figures["latency_policies"].items()
        if (ms := found.get("p95")) is not None
    ]
    refused = figures["agent"]["refused"]
    goals.append(_goal("views of an interrupted agent refused", refused, "0", refused == 0))
    promises = figures["promises"]
    used, lost = promises["budget"]["least_share"], promises["rules"]["lost"]
    missed = len(promises["scripts"]["missed"])
    goals += [
        _goal("least share of a budget used", used, ">= 0.95", used >= 0.95),
        _goal("rules lost in 1,000 compactions", lost, "0", lost == 0),
        _goal("facts not found, in ten scripts", missed, "0", missed == 0),
    ]
    mem0 = figures.get("peers", {}).get("mem0", {}).get("search_ms_at_300")
    if mem0:
        mine = figures["records"]["search_ms"]["p50"]
        bound = f"< {mem0['p50']:.2f} (Mem0 at 300)"
        goals.append(_goal("record search p50 at 10k, ms", mine, bound, mine < mem0["p50"]))
    if writers := figures.get("writers"):
        bad = sum(writers[k] for k in ("missing", "twice", "out_of_order", "at_another_place"))
        whole = writers["acknowledged"] == writers["sent"]
        goals.append(_goal("steps lost, doubled or moved", bad, "0", bad == 0 and whole))
    return goals


def _world_goals(figures: dict[str, Any]) -> list[MustShow]:
    """What learning from talk may not have cost on worlds of work."""
    scores = {point["share"]: point["score"] for point in figures["score"]["learned"]}
    return [
        _goal(
            f"score kept at {share:.0%}, worlds, learned",
            scores[share],
            f">= {least}",
            round(scores[share], 3) >= least,
        )
        for share, least in WORLDS.items()
    ]


def _talk_goals(figures: dict[str, Any]) -> list[MustShow]:
    """Evidence kept by the learned policy against the best of BM25, Mem0 and the rubric."""
    goals = []
    for kind in figures["talk"]:
        kept = with_peer(figures, kind)
        for share in SHARES:
            at = {name: found[f"{share:g}"]["mean"] for name, found in kept.items()}
            ours = at.pop("learned")
            best = max(at, key=lambda name: at[name])
            bound = at[best] + AHEAD
            goals.append(
                _goal(
                    f"evidence kept at {share:.0%}, {kind}, learned",
                    ours,
                    f">= {bound:.3f} ({best} + {AHEAD})",
                    ours >= bound,
                )
            )
    return goals


def _goal(line: str, value: float, goal: str, met: bool) -> MustShow:
    return MustShow(line, round(float(value), 4), goal, bool(met))


def peer_scores(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    peers = figures.get("peers", {})
    return {
        name: peer["score"]
        for name, peer in peers.items()
        if isinstance(peer, dict) and "score" in peer
    }


def _enough_of(points: dict[str, float]) -> float | None:
    return least_budget(
        [BudgetPoint(float(share), score, float(share)) for share, score in points.items()]
    )
