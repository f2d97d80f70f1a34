"""What the demo found out, as the report states it: figures of the session, bounds, attacks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpc.encoder import Floats
from mpc.top_model import auc
from node.demo import pictures
from node.demo.applicants import BANK_A, BANK_B, COLUMNS, Applicants
from node.demo.disclosure import Scene, attacks, frontier
from node.demo.in_clear import DEFAULT, Replay, best_in_clear, encoded
from node.demo.journey import BANKS, Journey, tokens
from node.demo.session_results import SessionResults

_FLOATS_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Findings:
    """The report but for its times, and the curves that its pictures are drawn from."""

    report: dict[str, Any]
    curves: dict[str, tuple[Floats, Floats, float]]

    def drawn(self) -> dict[str, str]:
        """The pictures of the page, by name, as SVG."""
        nodes, edges = _graph(self.report)
        return {
            "roc": pictures.roc(self.curves),
            "losses": pictures.learning_curve(self.report["losses"]),
            "frontier": pictures.frontier(self.report["frontier"], (DEFAULT.width, DEFAULT.noise)),
            "graph": pictures.composition(nodes, edges),
        }


def find(
    journey: Journey,
    results: SessionResults,
    applicants: Applicants,
    facts: Mapping[str, Any],
    seed: int,
) -> Findings:
    """Everything about one session that the report states."""
    scene = Scene.of(applicants, results.split)
    labels = scene.labels[results.split.held_out]
    bounds = _bounds(scene, seed)
    shared = auc(results.scores, labels)
    scored = {name: (bound.scores, labels, bound.auc) for name, bound in bounds.items()}
    recipient = journey.session["summary"]["recipient"]
    told = {
        "seed": seed,
        "auc": {
            "a": round(bounds["bank A alone"].auc, _FLOATS_DIGITS),
            "b": round(bounds["bank B alone"].auc, _FLOATS_DIGITS),
            "shared": round(shared, _FLOATS_DIGITS),
            "clear": round(bounds["all in clear"].auc, _FLOATS_DIGITS),
        },
        "openings": _openings(journey, recipient),
        "refused": journey.refused,
        "attack": attacks(scene, results.opened, DEFAULT, seed),
        "frontier": frontier(scene, DEFAULT, seed),
        "losses": [round(loss, _FLOATS_DIGITS) for loss in recipient["losses"]],
        "payments": {name: tokens(amount) for name, amount in sorted(journey.withdrawn.items())},
        "dues": journey.paid,
        "gas": facts["gas"],
        "assets": facts["assets"],
        "grants": facts["grants"],
        "traces": journey.traces,
        "task": journey.task,
        "algorithm": journey.algorithm,
        "session": journey.session["session"],
    }
    return Findings(told, {**scored, "shared features": (results.scores, labels, shared)})


def _bounds(scene: Scene, seed: int) -> dict[str, Replay]:
    columns = {
        "bank A alone": COLUMNS[BANK_A],
        "bank B alone": COLUMNS[BANK_B],
        "all in clear": (*COLUMNS[BANK_A], *COLUMNS[BANK_B]),
    }
    return {
        name: best_in_clear(
            encoded(scene.applicants, scene.split, names), scene.labels, scene.split, seed
        )
        for name, names in columns.items()
    }


def _openings(journey: Journey, recipient: Mapping[str, Any]) -> dict[str, Any]:
    owners = {}
    for bank in BANKS:
        given = journey.summaries[bank]["contributor"]
        bound = given["epsilon"]
        owners[bank] = {
            "numbers_per_row": given["numbers_per_row"],
            "numbers_opened": given["numbers_opened"],
            "relative_noise": DEFAULT.noise,
            "noise_sd": given["noise"],
            "mu": given["mu"],
            "epsilon": bound if bound is not None and math.isfinite(bound) else None,
            "delta": given["delta"],
            "clipped_values": given["clipped_values"],
            "clipped_gradients": given["clipped_gradients"],
        }
    return {
        "numbers_per_row": max(owner["numbers_per_row"] for owner in owners.values()),
        "numbers_opened": recipient["numbers_opened"],
        "rows": recipient["rows"],
        "rows_trained": recipient["rows_trained"],
        "rows_evaluated": recipient["rows_evaluated"],
        "rounds": recipient["rounds"],
        "owners": owners,
        "engines": {
            name: summary["member"]["engines"]
            for name, summary in journey.summaries.items()
            if "member" in summary
        },
    }


def _graph(report: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The algorithm that ran, its children, its task: nodes and edges of the picture."""
    algorithm = report["algorithm"]
    granted = {grant["child"]: grant for grant in report["grants"] if grant["parent"] == algorithm}
    nodes: dict[str, Any] = {}
    for asset in report["assets"]:
        if asset["cdt"] == algorithm or asset["cdt"] in granted:
            nodes[asset["cdt"]] = {
                "label": f"{asset['name']}\n{asset['owner']}",
                "level": int(asset["cdt"] == algorithm),
                "kind": asset["type"],
            }
    task = report["task"]
    attester = next(use["attester"] for each in report["traces"].values() for use in each["uses"])
    nodes[task] = {"label": f"task\n{task[:10]}…", "level": 2, "kind": "task"}
    units = {due["cdt"]: due["amount"] for due in report["dues"]}
    edges = [
        {
            "child": child,
            "parent": algorithm,
            "label": f"{grant['uses']} use\n{tokens(int(units.get(child, '0')))} tokens",
        }
        for child, grant in granted.items()
    ]
    return nodes, [*edges, {"child": algorithm, "parent": task, "label": f"attested: {attester}"}]
