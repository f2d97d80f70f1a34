"""The report's pictures, as SVG text that stands in the page itself."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc.encoder import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#6d597a", "#b08900")
_SMOOTHING = 9


def roc(curves: Mapping[str, tuple[Floats, Floats, float]]) -> str:
    """The ROC of each named model: scores and labels of the held-out rows, and its AUC."""
    figure, axes = _new(5.2, 4.6)
    for colour, (name, (scores, labels, area)) in zip(_COLOURS, curves.items(), strict=False):
        order = np.argsort(-scores, kind="stable")
        hits = labels[order]
        false = np.concatenate([[0.0], np.cumsum(1 - hits) / max(1.0, (1 - hits).sum())])
        true = np.concatenate([[0.0], np.cumsum(hits) / max(1.0, hits.sum())])
        axes.plot(false, true, color=colour, label=f"{name} ({area:.3f})", linewidth=1.6)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xlabel="good applicants refused", ylabel="bad applicants found")
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def learning_curve(losses: Sequence[float]) -> str:
    """The loss of each mini-batch and its running mean."""
    figure, axes = _new(5.2, 3.2)
    rounds = np.arange(1, len(losses) + 1)
    axes.plot(rounds, losses, color="#bbbbbb", linewidth=0.8, label="mini-batch")
    if len(losses) >= _SMOOTHING:
        mean = np.convolve(losses, np.ones(_SMOOTHING) / _SMOOTHING, mode="valid")
        middle = rounds[_SMOOTHING // 2 : _SMOOTHING // 2 + len(mean)]
        axes.plot(middle, mean, color=_COLOURS[0], linewidth=1.8, label=f"mean of {_SMOOTHING}")
    axes.set(xlabel="round", ylabel="loss")
    axes.legend(frameon=False)
    return _svg(figure)


def frontier(points: Sequence[Mapping[str, float]], chosen: tuple[int, float]) -> str:
    """AUC against what the attack recovers, a line for each width; `chosen` is the session's."""
    figure, axes = _new(6.4, 4.4)
    for colour, width in zip(_COLOURS, sorted({point["width"] for point in points}), strict=False):
        line = [point for point in points if point["width"] == width]
        recovered = [100 * point["recovered"] for point in line]
        axes.plot(
            recovered,
            [point["auc"] for point in line],
            color=colour,
            marker="o",
            markersize=4,
            label=f"width {width:g}",
        )
        for point, x in zip(line, recovered, strict=True):
            axes.annotate(
                f"{point['noise']:g}",
                (x, point["auc"]),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=7,
                color=colour,
            )
            if (int(point["width"]), point["noise"]) == chosen:
                axes.plot(
                    x, point["auc"], marker="o", markersize=13, fillstyle="none", color="#222222"
                )
    axes.set(
        xlabel="of an unknown row of bank B recovered, % (300 known applicants, bank A helps)",
        ylabel="AUC",
    )
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def composition(nodes: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> str:
    """The graph of CDTs and grants.

    `nodes` maps an id to {label, level, kind}; an edge is {child, parent, label}. Levels rise from
    the leaves.
    """
    figure, axes = _new(8.6, 4.4)
    axes.set_axis_off()
    places = _places(nodes)
    for edge in edges:
        (x0, y0), (x1, y1) = places[edge["child"]], places[edge["parent"]]
        axes.annotate(
            "",
            (x1, y1 - 0.13),
            (x0, y0 + 0.13),
            arrowprops={"arrowstyle": "-|>", "color": "#666666", "linewidth": 1.0},
        )
        axes.text(
            x0 + 0.42 * (x1 - x0),
            y0 + 0.42 * (y1 - y0),
            edge["label"],
            fontsize=6.5,
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )
    kinds = sorted({str(node["kind"]) for node in nodes.values()})
    for identifier, node in nodes.items():
        x, y = places[identifier]
        colour = _COLOURS[kinds.index(str(node["kind"])) % len(_COLOURS)]
        axes.text(
            x,
            y,
            str(node["label"]),
            fontsize=8,
            ha="center",
            va="center",
            color="white",
            bbox={"boxstyle": "round,pad=0.5", "facecolor": colour, "edgecolor": "none"},
        )
    levels = [y for _, y in places.values()]
    axes.set(xlim=(-0.6, _widest(nodes) - 0.4), ylim=(min(levels) - 0.4, max(levels) + 0.4))
    return _svg(figure)


def _places(nodes: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    widest, places = _widest(nodes), {}
    for level in sorted({int(node["level"]) for node in nodes.values()}):
        row = [identifier for identifier, node in nodes.items() if int(node["level"]) == level]
        for place, identifier in enumerate(row):
            places[identifier] = ((place + 0.5) * widest / len(row) - 0.5, float(level))
    return places


def _widest(nodes: Mapping[str, Any]) -> int:
    levels = [int(node["level"]) for node in nodes.values()]
    return max(levels.count(level) for level in levels)


def _new(width: float, height: float) -> "tuple[Figure, Axes]":
    # The figure is made without pyplot, which would look for a display and keep every figure.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: "Figure") -> str:
    from matplotlib import rc_context  # noqa: PLC0415

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
