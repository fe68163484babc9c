"""The result of a sweep: table, parallel coordinates, history, and the best recipe, ready for `mmgnn train`.

Trials are ordered by their best validation, whose weights they keep. The best trial is chosen among those
that trained to the end: one that asha stopped after few validations may have been lucky.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmgnn_dist.config import Recipe
from mmgnn_dist.files import write_json, write_text
from mmgnn_dist.sweep.ledger import Entry, trial_dir
from mmgnn_dist.train.report.plots import BLUE, GREY, ORANGE, pyplot, save

SHOWN = 12  # characters of a value on the plot's axis


def ranked(entries: list[Entry]) -> list[Entry]:
    """Sort trials, the best first: whole ones, then stopped or open ones, each by score; failed ones last."""
    order = {"done": 0, "stopped": 1, "open": 1, "failed": 2}
    return sorted(entries, key=lambda e: (order[e.state], e.loss, e.number))


def write_leaderboard(recipe: Recipe, folder: Path, entries: list[Entry]) -> None:
    """Write the table, the plots and, once a trial is done, the best recipe."""
    assert recipe.sweep
    order = ranked(entries)
    rows = [
        {
            "trial": entry.number,
            "state": entry.state,
            "score": entry.best,
            "validations": len(entry.scores),
            **entry.values,
            **({"reason": entry.reason} if entry.reason else {}),
        }
        for entry in order
    ]
    write_json(folder / "leaderboard.json", {"metric": recipe.sweep.metric, "trials": rows})
    write_text(folder / "leaderboard.md", _markdown(recipe, order))
    scored = [entry for entry in order if entry.best is not None]
    if scored:
        _parallel(folder / "plots" / "parallel_coordinates.png", recipe, scored)
        _history(folder / "plots" / "history.png", recipe, scored)
    if order and order[0].state == "done":
        best = recipe.changed(order[0].values)
        best.model_copy(update={"name": f"{recipe.name}-best"}).save(folder / "best.yaml")


def _markdown(recipe: Recipe, order: list[Entry]) -> str:
    assert recipe.sweep
    keys = list(recipe.sweep.space)
    lines = [f"# {recipe.name}: {len(order)} trials by {recipe.sweep.metric}", ""]
    lines.append("| trial | state | best | validations | " + " | ".join(keys) + " |")
    lines.append("|---" * (4 + len(keys)) + "|")
    for entry in order:
        best = "–" if entry.best is None else f"{entry.best:.5g}"
        cells = [f"{entry.number:03d}", entry.state, best, len(entry.scores)]
        lines.append("| " + " | ".join(map(str, [*cells, *(_short(entry.values[k]) for k in keys)])) + " |")
    lines += [f"\nTrial {e.number:03d} failed: {e.reason}" for e in order if e.state == "failed"]
    lines += [
        "",
        "![parallel coordinates](plots/parallel_coordinates.png)",
        "",
        "![history](plots/history.png)",
    ]
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return str(value.get("name", value))
    return str(value)


def _parallel(path: Path, recipe: Recipe, scored: list[Entry]) -> None:
    """Plot one axis for each key and one for the score; each trial is a line, darker for a better score."""
    import math

    assert recipe.sweep
    plt = pyplot()
    space = recipe.sweep.space
    figure, axis = plt.subplots(figsize=(2.2 + 1.5 * len(space), 3.6))
    heights: list[list[float]] = []
    for position, (key, dimension) in enumerate(space.items()):
        values = [entry.values[key] for entry in scored]
        if dimension.kind == "choice":
            choices = dimension.values or []
            heights.append([choices.index(v) / max(1, len(choices) - 1) for v in values])
            ends = [(k / max(1, len(choices) - 1), _short(v)[:SHOWN]) for k, v in enumerate(choices)]
        else:
            low, high = (math.log(c) if dimension.log else float(c) for c in dimension.corners)
            heights.append([((math.log(v) if dimension.log else v) - low) / (high - low) for v in values])
            ends = [(k, _short(c)) for k, c in enumerate(dimension.corners)]
        for height, text in ends:
            axis.text(position - 0.04, height, text, ha="right", va="center", fontsize=7, color=GREY)
    scores = [entry.best or 0.0 for entry in scored]
    low, high = min(scores), max(scores)
    heights.append([(score - low) / ((high - low) or 1.0) for score in scores])
    losses = heights[-1] if recipe.sweep.mode == "min" else [1 - height for height in heights[-1]]
    for text, height in ((f"{low:.3g}", 0), (f"{high:.3g}", 1)):
        axis.text(len(space) + 0.04, height, text, ha="left", va="center", fontsize=7, color=GREY)
    for number, entry in reversed(list(enumerate(scored))):
        line = [column[number] for column in heights]
        first = number == 0
        alpha = 1.0 if first else 0.75 - 0.55 * losses[number]
        style = "-" if entry.state == "done" else ":"
        axis.plot(line, style, color=ORANGE if first else BLUE, lw=2.2 if first else 1.1, alpha=alpha)
    names = [key.split(".", 1)[-1] for key in space]
    axis.set_xticks(range(len(space) + 1), [*names, recipe.sweep.metric], fontsize=7, rotation=12)
    for x in range(len(space) + 1):
        axis.axvline(x, color=GREY, lw=0.8)
    axis.set(yticks=[], title=f"{len(scored)} trials (dotted: stopped early), the best in orange")
    axis.spines["left"].set_visible(False)
    save(figure, path)


def _history(path: Path, recipe: Recipe, scored: list[Entry]) -> None:
    """Plot the score of each trial in the order of their numbers, and the best score so far."""
    assert recipe.sweep
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    entries = sorted(scored, key=lambda entry: entry.number)
    for state, colour, label in (("done", BLUE, "done"), ("stopped", GREY, "stopped early")):
        part = [entry for entry in entries if entry.state == state]
        axis.plot([e.number for e in part], [e.best for e in part], "o", ms=4, color=colour, label=label)
    best = [min(entries[: k + 1], key=lambda entry: entry.loss).best for k in range(len(entries))]
    axis.step([e.number for e in entries], best, where="post", color=ORANGE, lw=1.5, label="best so far")
    axis.set(xlabel="trial", title=f"best validation of each trial ({recipe.sweep.metric})")
    axis.legend(frameon=False)
    save(figure, path)


def print_leaderboard(recipe: Recipe, folder: Path, entries: list[Entry]) -> None:
    """Print the table to the terminal, and the paths of what was written."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    assert recipe.sweep
    keys = list(recipe.sweep.space)
    ends = [key.rsplit(".", 1)[-1] for key in keys]
    headings = ends if len(set(ends)) == len(ends) else keys
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("trial", "state", recipe.sweep.metric, *headings):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    order = ranked(entries)
    for entry in order:
        best = "–" if entry.best is None else f"{entry.best:.4g}"
        table.add_row(f"{entry.number:03d}", entry.state, best, *(_short(entry.values[key]) for key in keys))
    console = Console()
    console.print(table)
    if order and order[0].state == "done":
        where = f"best: {trial_dir(folder, order[0].number)}; its recipe: mmgnn train {folder / 'best.yaml'}"
        console.print(where, highlight=False, soft_wrap=True)
    for entry in order:
        if entry.state == "failed":
            console.print(f"trial {entry.number:03d} failed: {entry.reason}", highlight=False, soft_wrap=True)
    console.print(
        f"table {folder / 'leaderboard.md'}, pictures {folder / 'plots'}", highlight=False, soft_wrap=True
    )
