"""Figures of traced and edited facts: where patching restores them, and what edits do."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from patchwork.figures import panels, theme
from patchwork.figures.panels import Facets, words

INTERVAL = ["ci_low", "ci_high"]
ROLES = {
    "subject_first": "subject, first",
    "subject_last": "subject, last",
    "relation": "relation",
    "last": "last",
}
_RECOVERY_MAPS = "What single activations restore of a fact"
_COMPONENT_RECOVERY = "Recovery by component and layer"
_SET_CURVES = "How many sites a fact needs"
_EDIT_SCORES = "Edits by layer, beside tracing"
_KNOWN_SHARES = "Facts that the networks know"
_RELEASED_RECOVERY = "Recovery by module as released"
_FORWARD = "clean_to_corrupted"
_RECOVERY = "Recovery (%)"


def _nothing(title: str) -> Figure:
    """What stands in place of a figure if the networks know too little."""
    figure, axes = theme.blank(theme.SINGLE_CM, 1.0)
    axes.text(4, 4, "Nothing to show.", va="top")
    return theme.finish(figure, title, "No network knows a fact that could be used.")


def _single(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """Effects of single layers, clean states in the corrupted run."""
    if frame.empty:
        return frame
    panels.require(frame, ["component", "layer", "role", "width", "estimate", *INTERVAL], what)
    chosen = (frame["width"] == 1) & (frame["direction"] == _FORWARD)
    return frame[chosen & frame["role"].isin(ROLES)]


@theme.styled
def recovery_maps(frame: pd.DataFrame) -> Figure:
    """Recovery by layer and token, one map per component and kind of fact.

    Args:
        frame: `recoveries`; windows and the opposite direction are left out.

    Returns:
        Maps on one scale, -100 to 100 %.
    """
    drawn = _single(frame, "recovery_maps")
    if drawn.empty:
        return _nothing(_RECOVERY_MAPS)
    drawn = drawn[(drawn["kind"] != "all") & (drawn["task"] == "fact")]
    if drawn.empty:
        return _nothing(_RECOVERY_MAPS)
    grid = panels.grid(drawn, Facets(("protocol", "kind"), ("component",), 4.6))
    image = None
    for axes, part in grid:
        table = part.pivot_table(index="layer", columns="role", values="estimate")
        table = table.reindex(columns=[role for role in ROLES if role in table.columns])
        image = axes.imshow(table, cmap="RdBu_r", vmin=-100, vmax=100, aspect="auto",
                            origin="lower")  # fmt: skip
        axes.set_xticks(range(table.shape[1]), [ROLES[role] for role in table.columns],
                        rotation=90)  # fmt: skip
        axes.set_yticks(range(len(table)), [str(1 + layer) for layer in table.index])
    grid.label("Token", "Layer (no.)")
    bar = grid.figure.colorbar(image, ax=grid.axes, fraction=0.03)  # type: ignore[arg-type]
    bar.set_label(_RECOVERY)
    caption = (
        "Share of the difference of log-odds between clean and corrupted question that clean "
        "states restore at one layer and token, as a ratio of means. Layers counted from 1. The "
        "residual stream before layer 1 at the subject is the input itself, so it restores all. "
        f"{panels.counts(drawn, 'cell')}"
    )
    return grid.finish(_RECOVERY_MAPS, caption)


@theme.styled
def component_recovery(frame: pd.DataFrame) -> Figure:
    """Recovery by layer at the last subject token and the last token, with controls.

    Args:
        frame: `recoveries`.

    Returns:
        Panels across: component and token; one line per task. Hatched: identities.
    """
    drawn = _single(frame, "component_recovery")
    if drawn.empty:
        return _nothing(_COMPONENT_RECOVERY)
    tasks = {"fact": "facts", "copy": "copy task", "wrong_donor": "wrong donor"}
    drawn = drawn[(drawn["kind"] == "all") & drawn["task"].isin(tasks)]
    drawn = drawn[drawn["role"].isin(["subject_last", "last"])]
    if drawn.empty:
        return _nothing(_COMPONENT_RECOVERY)
    place = (
        drawn["component"].map(words)
        + " at the "
        + drawn["role"].map({"subject_last": "subject's last token", "last": "last token"})
    )
    drawn = drawn.assign(place=place, number=drawn["layer"] + 1).dropna(subset=INTERVAL)
    colours = theme.colours(tasks)
    grid = panels.grid(drawn, Facets(("protocol",), ("place",), 4.2))
    for axes, part in grid:
        axes.axhline(0, color=theme.PALE, lw=0.6)
        stream = part["component"].iloc[0] == "resid_pre"
        if stream and part["role"].iloc[0] == "subject_last":
            axes.axvspan(0.5, 1.5, facecolor="none", edgecolor=theme.PALE, hatch="///", lw=0)
        for task, line in part.groupby("task", sort=False):
            panels.band(axes, "number", "estimate", line, color=colours[task], marker="o",
                        label=tasks[str(task)])  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid.label("Layer (no.)", _RECOVERY)
    grid.legend()
    caption = (
        "Clean states of one layer in the corrupted run; bands: Fieller's 95 % intervals of ratios "
        "of means. Copy task: the text names the subject again. Wrong donor: states of another "
        "fact. Hatched: an identity where the subject is one token. "
        f"{panels.counts(drawn, 'point')}"
    )
    return grid.finish(_COMPONENT_RECOVERY, caption)


@theme.styled
def set_curves(frame: pd.DataFrame) -> Figure:
    """What the best sites restore together, by number of sites, for each crossed factor.

    Args:
        frame: `set_curves`.

    Returns:
        Panels across: factor; one line per level.
    """
    if frame.empty:
        return _nothing(_SET_CURVES)
    panels.require(frame, ["factor", "level", "n_sites", "estimate", *INTERVAL], "set_curves")
    drawn = frame[frame["task"] == "fact"]
    if drawn.empty:
        return _nothing(_SET_CURVES)
    grid = panels.grid(drawn, Facets(("protocol",), ("factor",), 4.2, most_columns=2))
    for axes, part in grid:
        axes.axhline(80, color=theme.PALE, lw=0.6, ls=":")
        levels = sorted(part["level"].unique())
        colours = theme.colours(levels)
        for level, line in part.groupby("level", sort=False):
            panels.band(axes, "n_sites", "estimate", line, color=colours[level], marker="o")
        axes.legend([axes.lines[1 + i] for i in range(len(levels))],
                    [words(level) for level in part["level"].unique()], loc="lower right",
                    title=words(part["factor"].iloc[0]))  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("")
    grid.label("Sites patched together (no.)", _RECOVERY)
    caption = (
        "Attention and MLP outputs, added in the order of their own effect on one half of the "
        "facts and tried on the other, mean of both choices. Dotted: 80 %, what a minimal set "
        f"restores. Bands: 95 % intervals over seeds. {panels.counts(drawn, 'point')}"
    )
    return grid.finish(_SET_CURVES, caption)


@theme.styled
def edit_scores(frame: pd.DataFrame) -> Figure:
    """Efficacy, paraphrase and specificity of edits by layer, beside the tracing effect.

    Args:
        frame: `edit_scores`, one row per seed, method, layer and kind.

    Returns:
        One panel per score and one of the tracing effect; lines: methods, means over seeds.
    """
    columns = ["seed", "method", "layer", "kind", "efficacy", "paraphrase", "specificity"]
    if frame.empty:
        return _nothing(_EDIT_SCORES)
    panels.require(frame, columns, "edit_scores")
    drawn = frame[(frame["kind"] == "all") & (frame["layer"] >= 0)]
    if drawn.empty:
        return _nothing(_EDIT_SCORES)
    scores = {
        "efficacy": "efficacy (share)", "paraphrase": "paraphrase (share)",
        "specificity": "specificity (share)", "tracing_effect": "tracing (nat)",
    }  # fmt: skip
    long = drawn.melt(["protocol", "seed", "method", "layer"], list(scores), "score", "value")
    long["score"] = long["score"].map(scores)
    same = long["score"] == scores["tracing_effect"]
    long.loc[same, "method"] = "tracing"
    long = long.drop_duplicates()
    keys = ["protocol", "score", "method", "layer"]
    grouped = long.groupby(keys, sort=False)["value"]
    shown = grouped.agg(["mean", "std", "count"]).reset_index()
    half = 2 * shown["std"].fillna(0) / np.sqrt(shown["count"].clip(lower=1))
    shown = shown.assign(
        number=shown["layer"] + 1, ci_low=shown["mean"] - half, ci_high=shown["mean"] + half
    )
    shares = shown["score"] != scores["tracing_effect"]
    ends = ["ci_low", "ci_high"]
    shown[ends] = shown[ends].where(~shares, shown[ends].clip(0, 1))
    colours = theme.colours(shown["method"])
    grid = panels.grid(shown, Facets(("protocol",), ("score",), 4.2, most_columns=2))
    for axes, part in grid:
        for method, line in part.groupby("method", sort=False):
            panels.band(axes, "number", "mean", line, color=colours[method], marker="o",
                        label=words(method))  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if shares[part.index].all():
            axes.set_ylim(-0.04, 1.04)
    grid.label("Edited layer (no.)", "Mean over facts")
    grid.legend()
    caption = (
        "Efficacy and paraphrase: the new answer is more probable than the old one; specificity: "
        "answers of other facts stay. ROME with the bare and with the mean key, a random rank-one "
        "change of the same norm, fine-tuning of one layer within a bound. Bands: two standard "
        f"errors over seeds. {panels.counts(drawn, 'score')}"
    )
    return grid.finish(_EDIT_SCORES, caption)


@theme.styled
def known_shares(frame: pd.DataFrame) -> Figure:
    """Share of the facts that each network knows, by kind of fact and task.

    Args:
        frame: `knowledge_shares`; rows other than ``known`` are left out.

    Returns:
        One panel per task; points with intervals per protocol.
    """
    if frame.empty:
        return _nothing(_KNOWN_SHARES)
    panels.require(frame, ["status", "task", "kind", "estimate", *INTERVAL], "known_shares")
    drawn = frame[frame["status"] == "known"]
    if drawn.empty:
        return _nothing(_KNOWN_SHARES)
    kinds = theme.colours(drawn["kind"])
    grid = panels.grid(drawn, Facets((), ("task",), 4.6))
    for axes, part in grid:
        protocols = list(dict.fromkeys(drawn["protocol"]))
        for i, (kind, points) in enumerate(part.groupby("kind", sort=False)):
            at = [protocols.index(name) + 0.2 * i - 0.1 for name in points["protocol"]]
            ends = np.abs(points[INTERVAL].to_numpy().T - points["estimate"].to_numpy())
            axes.errorbar(at, points["estimate"], np.nan_to_num(ends), fmt="o",
                          color=kinds[kind], label=words(kind))  # fmt: skip
        axes.set_xticks(range(len(protocols)), [words(name) for name in protocols],
                        rotation=45, ha="right", rotation_mode="anchor")  # fmt: skip
        axes.set_ylim(-0.05, 1.05)
    grid.label("Protocol", "Share known (0 to 1)")
    grid.legend()
    caption = (
        "Facts whose answer is the most probable next token after both held-out prompts; of the "
        "copy task, names that are named again. Bars: 95 % intervals. "
        f"{panels.counts(drawn, 'point')}"
    )
    return grid.finish(_KNOWN_SHARES, caption)


@theme.styled
def released_recovery(frame: pd.DataFrame) -> Figure:
    """Recovery as the released procedure computes it, by the name that it gives to modules.

    Args:
        frame: `released_recoveries`.

    Returns:
        One panel per protocol; one bar per name.
    """
    if frame.empty:
        return _nothing(_RELEASED_RECOVERY)
    panels.require(frame, ["variant", "module", "estimate", *INTERVAL], "released_recovery")
    drawn = frame[frame["variant"] == "linear_and_conv1d"]
    if drawn.empty:
        return _nothing(_RELEASED_RECOVERY)
    grid = panels.grid(drawn, Facets((), ("protocol",), 4.6))
    for axes, part in grid:
        head = part["module"].str.startswith("Linear").to_numpy()
        at = np.arange(len(part))
        bars = axes.barh(at, part["estimate"], color=theme.PALETTE[0], height=0.6)
        for bar, hatched in zip(bars, head, strict=True):
            bar.set_hatch("///" if hatched else "")
        ends = np.abs(part[INTERVAL].to_numpy().T - part["estimate"].to_numpy())
        axes.errorbar(part["estimate"], at, xerr=np.nan_to_num(ends), fmt="none", color="black",
                      lw=0.8)  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(4))
        names = part["module"].str.extract(r"nf=(\d+), nx=(\d+)")
        axes.set_yticks(at, [
            "unembedding" if one else f"{b} to {a}"
            for one, a, b in zip(head, names[0], names[1], strict=True)
        ])  # fmt: skip
    grid.label(_RECOVERY, "Module (inputs to outputs)")
    caption = (
        "All modules of one shape share a name, under which the last block's is patched. Hatched: "
        "the output of the unembedding, which restores 100 % in any network. Texts differ in "
        f"length and end with their answers. Bars: 95 % intervals. {panels.counts(drawn, 'bar')}"
    )
    return grid.finish(_RELEASED_RECOVERY, caption)
