"""report.json and report.html: what the demo found, for a program and for a person.

The page is self-contained: no script, no address, the pictures are SVG inside it. What came from a
node is escaped.
"""

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e4e4e4;
  vertical-align: top; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { color: #555; }
td.short { white-space: nowrap; }
code { font-size: .88em; overflow-wrap: anywhere; } .note { color: #555; }
"""

_SHORT = 24
"""Letters of a cell that is not broken: browsers break after the hyphen of bank-a."""

ATTACKS = {
    "with_noise": "what the fintech received",
    "without_noise": "the same without noise (replayed)",
    "with_noise_bank_a_helps": "bank A helps, bank B's noise alone is left (replayed)",
    "without_noise_bank_a_helps": "bank A helps, no noise (replayed)",
}


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Afterwards `path` holds the report as one JSON object."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_html(report: Mapping[str, Any], pictures: Mapping[str, str], path: Path) -> None:
    """Afterwards `path` is the page; `pictures` maps roc, losses, frontier and graph to SVG."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Northbund: one risk model of four organisations</title><style>{_STYLE}</style>",
        _head(report),
        _quality(report, pictures),
        _disclosed(report, pictures),
        _refusals(report),
        _assets(report, pictures),
        _money(report),
        _times(report),
        "</html>",
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _head(report: Mapping[str, Any]) -> str:
    auc, openings = report["auc"], report["openings"]
    return (
        "<h1>One risk model of four organisations</h1>"
        "<p>Bank A and bank B hold different facts about partly the same applicants; a fintech "
        "knows who defaulted; a regulator vouches for the computation. No bank's rows left its "
        f"node. On applicants that were never trained on, the model on shared features has an AUC "
        f"of <b>{auc['shared']:.3f}</b>; either bank's facts alone give {auc['a']:.3f} and "
        f"{auc['b']:.3f}, all columns in clear {auc['clear']:.3f}. For that, "
        f"{openings['numbers_per_row']} noisy numbers about a trained applicant were opened to the "
        f"fintech. Seed {report['seed']}.</p>"
    )


def _quality(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    names = {
        "a": "bank A's facts alone",
        "b": "bank B's facts alone",
        "shared": "shared features, through the network",
        "clear": "all columns in clear (the bound)",
    }
    rows = [(names[key], f"{report['auc'][key]:.4f}") for key in names]
    return (
        "<h2>How good the model is</h2>"
        + _table(("trained on", "AUC on held-out applicants"), rows)
        + "<p class='note'>All four use the same encoder and network. Those in clear were trained "
        "three times until they learnt no more, and the best counts.</p>"
        + _figure(pictures["roc"], "The trade between defaults found and good applicants refused.")
        + _figure(pictures["losses"], "The loss of each mini-batch at the fintech.")
    )


def _disclosed(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    openings = report["openings"]
    owners = [
        (
            name,
            owner["numbers_per_row"],
            f"{owner['relative_noise']:g} of each column's deviation",
            _epsilon(owner["epsilon"]),
            f"{owner['delta']:g}",
        )
        for name, owner in openings["owners"].items()
    ]
    found = [
        (
            ATTACKS[kind],
            known,
            f"{result['whole_rows']} of {result['attacked_rows']:,}",
            f"{100 * result['recovered']:.1f} %",
            _best(result["columns"], "number"),
            _best(result["columns"], "category"),
        )
        for kind, results in report["attack"].items()
        for known, result in results.items()
    ]
    return (
        "<h2>What was disclosed</h2>"
        f"<p>{openings['rows']:,} applicants are common to all three holders; the holders learnt "
        f"which of their own these are. {openings['rows_trained']:,} were trained on and "
        f"{openings['rows_evaluated']} held out and opened once; {openings['numbers_opened']:,} "
        "numbers were opened to the fintech in all. The gradients told both banks the outcome of "
        "the trained applicants, to which the fintech had consented in writing.</p>"
        + _table(("owner", "numbers for each row", "noise", "epsilon", "delta"), owners)
        + "<p class='note'>Epsilon is for one replaced row against the fintech. At this noise it "
        "is in the thousands: no proof of privacy, and shown for that reason. The noise hinders "
        "attacks; the next table says how much of a row they bring out all the same.</p>"
        + _table(
            ("attack", "known", "whole rows", "of a row", "best number, R2", "best category"),
            found,
        )
        + "<p class='note'>The attack solves a linear regression from what was opened to the "
        "columns of applicants that the attacker knows, and is measured on those that it does not "
        "know; scores are means of several such attacks, whole rows the most of any. A stronger "
        "attacker gets more: without noise, and with eight numbers for each applicant, one that "
        "solves for the banks' weights has recovered whole rows.</p>"
        + _figure(
            pictures["frontier"],
            "What a wider or quieter opening would buy and cost. Labels are the noise as a share "
            "of each column's deviation; the circle is this session.",
        )
    )


def _refusals(report: Mapping[str, Any]) -> str:
    rows = [
        ("", "", constraint) if place else (refused["organisation"], refused["asked"], constraint)
        for refused in report["refused"]
        for place, constraint in enumerate(refused["constraints"])
    ]
    return "<h2>What was refused</h2>" + _table(("by", "asked for", "why, and what passes"), rows)


def _assets(report: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    rows = [
        (asset["name"], asset["type"], asset["owner"], asset["cdt"]) for asset in report["assets"]
    ]
    return (
        "<h2>Assets and grants</h2>"
        + _figure(pictures["graph"], "An arrow is a grant: the child may be used by the parent.")
        + _table(("name", "type", "owner", "CDT"), rows)
    )


def _money(report: Mapping[str, Any]) -> str:
    gas = [
        (kind, spent["transactions"], spent["gas"], spent["gas"] // max(1, spent["transactions"]))
        for kind, spent in report["gas"].items()
    ]
    paid = [(name, amount) for name, amount in report["payments"].items()]
    return (
        "<h2>The chain</h2>"
        + _table(("transaction", "sent", "gas", "gas each"), gas)
        + _table(("paid to", "tokens"), paid)
    )


def _times(report: Mapping[str, Any]) -> str:
    rows = [(stage, f"{seconds:.2f}") for stage, seconds in report["stages"].items()]
    memory = report["memory"]
    return (
        "<h2>Time and memory</h2>"
        + _table(("stage", "seconds"), [*rows, ("in all", f"{report['seconds']:.2f}")])
        + f"<p>At most {memory['peak_mb']:.0f} MB for {memory['processes']} processes together "
        "(summed PSS).</p>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["<table><tr>"]
    for place, cell in enumerate(head):
        numbers = all(isinstance(row[place], int | float) for row in rows)
        lines.append(f"<th{' class=number' * numbers}>{html.escape(cell)}</th>")
    lines.append("</tr>")
    for row in rows:
        lines.append("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>")
    return "".join([*lines, "</table>"])


def _cell(value: Any) -> str:
    if isinstance(value, int | float):
        return f"<td class='number'>{value:,}</td>"
    text = html.escape(str(value))
    if text.startswith("0x"):
        return f"<td><code>{text}</code></td>"
    return f"<td class='short'>{text}</td>" if len(text) <= _SHORT else f"<td>{text}</td>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _best(columns: Mapping[str, Mapping[str, Any]], kind: str) -> str:
    found = {name: each for name, each in columns.items() if each["kind"] == kind}
    if not found:
        return "-"
    name = max(found, key=lambda each: float(found[each]["score"] - found[each]["prior"]))
    if kind == "number":
        return f"{name} {max(0.0, found[name]['score']):.2f}"
    return f"{name} {found[name]['score']:.2f} (guessing {found[name]['prior']:.2f})"


def _epsilon(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:,.0f}"
