"""The end of the demo on the terminal: what was learnt, disclosed, spent, and how long it took."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from node.demo.report import ATTACKS


def show(console: Console, report: Mapping[str, Any]) -> None:
    """Prints the tables of one report."""
    for table in (
        _quality(report["auc"]),
        _owners(report["openings"]),
        _attacks(report["attack"]),
        _gas(report["gas"]),
        _payments(report["payments"]),
        _stages(report),
    ):
        console.print()
        console.print(table)


def _quality(auc: Mapping[str, float]) -> Table:
    table = _new("Defaults found: AUC on applicants never trained on", "trained on", "AUC")
    for name, key in (
        ("bank A's facts alone", "a"),
        ("bank B's facts alone", "b"),
        ("shared features, through the network", "shared"),
        ("all columns in clear (the bound)", "clear"),
    ):
        style = "bold" if key == "shared" else ""
        table.add_row(Text(name, style), Text(f"{auc[key]:.3f}", style))
    return table


def _owners(openings: Mapping[str, Any]) -> Table:
    title = (
        f"Opened to the fintech: {openings['numbers_opened']:,} numbers about {openings['rows']:,} "
        f"applicants ({openings['rows_trained']:,} trained on, {openings['rows_evaluated']:,} held "
        "out)"
    )
    heads = ("owner", "numbers for each row", "noise / deviation", "epsilon", "delta")
    table = _new(title, *heads)
    for name, owner in openings["owners"].items():
        bound = owner["epsilon"]
        table.add_row(
            name,
            str(owner["numbers_per_row"]),
            f"{owner['relative_noise']:g}",
            "unbounded" if bound is None else f"{bound:,.0f}",
            f"{owner['delta']:g}",
        )
    table.caption = "Epsilon for one replaced row. This large it proves nothing: see the attack."
    return table


def _attacks(attack: Mapping[str, Any]) -> Table:
    title = "The fintech attacks what it received (linear attack)"
    table = _new(title, "attack", "known rows", "whole rows", "of an unknown row", "income, R2")
    for kind, results in attack.items():
        for known, found in results.items():
            table.add_row(
                ATTACKS[kind],
                known,
                f"{found['whole_rows']} of {found['attacked_rows']:,}",
                f"{100 * found['recovered']:.1f} %",
                f"{max(0.0, found['columns']['Income']['score']):.2f}",
            )
    return table


def _gas(gas: Mapping[str, Any]) -> Table:
    table = _new("Gas", "transaction", "sent", "gas", "gas each")
    for kind, spent in gas.items():
        each = spent["gas"] // max(1, spent["transactions"])
        table.add_row(kind, str(spent["transactions"]), f"{spent['gas']:,}", f"{each:,}")
    return table


def _payments(payments: Mapping[str, str]) -> Table:
    table = _new("Paid out of the escrow", "to", "tokens")
    for name, amount in payments.items():
        table.add_row(name, amount)
    return table


def _stages(report: Mapping[str, Any]) -> Table:
    memory = report["memory"]
    title = f"{report['seconds']:.1f} s, at most {memory['peak_mb']:.0f} MB for all processes"
    table = _new(title, "stage", "seconds")
    for stage, seconds in report["stages"].items():
        table.add_row(stage, f"{seconds:.2f}")
    return table


def _new(title: str, *heads: str) -> Table:
    table = Table(title=Text(title, "bold"), title_justify="left", box=None, pad_edge=False)
    table.caption_justify = "left"
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if not place else "right", header_style="dim")
    return table


def names(words: Sequence[str]) -> str:
    """`words` as people list them."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
