"""The end of the demo on the terminal: what was learnt, disclosed, spent, and how long it took."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_ATTACKED = {
    "with_noise": "what the fintech received",
    "without_noise": "without noise (replayed)",
    "with_noise_bank_a_helps": "bank A helps (replayed)",
    "without_noise_bank_a_helps": "bank A helps, no noise (replayed)",
}
"""Short, so that the table fits into 80 columns."""


def show(console: Console, report: Mapping[str, Any]) -> None:
    """Prints the tables of one report."""
    openings = report["openings"]
    opened = (
        f"Opened to the fintech: {openings['numbers_opened']:,} numbers about "
        f"{openings['rows']:,} applicants\n({openings['rows_trained']:,} of them trained on, "
        f"{openings['rows_evaluated']:,} held out)"
    )
    spent = f"{report['seconds']:.1f} s, at most {report['memory']['peak_mb']:.0f} MB in all"
    for title, table in (
        ("Defaults found: AUC on applicants never trained on", _quality(report["auc"])),
        (opened, _owners(openings["owners"])),
        ("The fintech attacks what it received (linear attack)", _attacks(report["attack"])),
        ("Gas", _gas(report["gas"])),
        ("Paid out of the escrow", _payments(report["payments"])),
        (spent, _stages(report["stages"])),
    ):
        console.print()
        console.print(Text(title, "bold"))
        console.print(table)


def _quality(auc: Mapping[str, float]) -> Table:
    table = _new("trained on", "AUC")
    for name, key in (
        ("bank A's facts alone", "a"),
        ("bank B's facts alone", "b"),
        ("shared features, through the network", "shared"),
        ("all columns in clear (the bound)", "clear"),
    ):
        style = "bold" if key == "shared" else ""
        table.add_row(Text(name, style), Text(f"{auc[key]:.3f}", style))
    return table


def _owners(owners: Mapping[str, Any]) -> Table:
    table = _new("owner", "numbers for each row", "noise / deviation", "epsilon", "delta")
    for name, owner in owners.items():
        bound = owner["epsilon"]
        table.add_row(
            name,
            str(owner["numbers_per_row"]),
            f"{owner['relative_noise']:g}",
            "unbounded" if bound is None else f"{bound:,.0f}",
            f"{owner['delta']:g}",
        )
    table.caption = "So large an epsilon proves nothing: see the attack."
    return table


def _attacks(attack: Mapping[str, Any]) -> Table:
    table = _new("attacked", "known rows", "whole rows", "of a row", "income, R2")
    for kind, results in attack.items():
        for known, found in results.items():
            table.add_row(
                _ATTACKED[kind],
                known,
                f"{found['whole_rows']} of {found['attacked_rows']:,}",
                f"{100 * found['recovered']:.1f} %",
                f"{max(0.0, found['columns']['Income']['score']):.2f}",
            )
    return table


def _gas(gas: Mapping[str, Any]) -> Table:
    table = _new("transaction", "sent", "gas", "gas each")
    for kind, spent in gas.items():
        each = spent["gas"] // max(1, spent["transactions"])
        table.add_row(kind, str(spent["transactions"]), f"{spent['gas']:,}", f"{each:,}")
    return table


def _payments(payments: Mapping[str, str]) -> Table:
    table = _new("to", "tokens")
    for name, amount in payments.items():
        table.add_row(name, amount)
    return table


def _stages(stages: Mapping[str, float]) -> Table:
    table = _new("stage", "seconds")
    for stage, seconds in stages.items():
        table.add_row(stage, f"{seconds:.2f}")
    return table


def _new(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.caption_justify = "left"
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if not place else "right", header_style="dim")
    return table


def names(words: Sequence[str]) -> str:
    """`words` as people list them."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
