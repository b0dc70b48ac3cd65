"""The network figures of a study, each made from the study's tables with its own caption."""

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from patchwork.figures.networks import graphs
from patchwork.figures.panels import span, words

Tables = dict[str, pd.DataFrame]
Drawing = tuple[Figure, pd.DataFrame]

_HIDDEN = ["random_label_rewired", "out_strength"]  # rows of the table alone
_SWEPT = ["real", "negative_loop_gain", "sensitivity"]
_COST = (
    "Cost: summed weight products of the simple cycles through a node, over its squared degree; "
    "combined: cube root of the absolute product of the costs of all lengths."
)


def draw(figure: str, tables: Tables, drawn: str) -> Drawing:
    """Draw one figure of a study of networks.

    Args:
        figure: a key of `FIGURES`.
        tables: the study's tables by name, each with a column dataset.
        drawn: the data set whose first network is drawn where a figure shows one network.

    Returns:
        The figure and exactly the rows that it shows.

    Raises:
        ValueError: if the figure is unknown.
    """
    if figure not in FIGURES:
        raise ValueError(f"figure: {figure!r}; allowed are {', '.join(FIGURES)}")
    return FIGURES[figure](tables, drawn)


def _title(dataset: str) -> str:
    return words(dataset).capitalize()


def _one(table: pd.DataFrame, drawn: str) -> pd.DataFrame:
    """Rows of the drawn network."""
    return table[(table["dataset"] == drawn) & (table["network"] == 0)]


def _network(tables: Tables, drawn: str) -> Drawing:
    nodes = _one(tables["scored_nodes"], drawn)
    wanted = ["random_label", "graph_free", "trained", "abscissa_change"]
    known = [name for name in wanted if name in nodes and nodes[name].notna().all()]
    values = nodes.melt("node", known, var_name="score")
    seeds = _seeds(tables, drawn)
    caption = (
        f"{_title(drawn)}, n = {len(nodes)} nodes; line width grows with the logarithm of "
        f"the weight, self-loops are not drawn. Numbers: mean score over seeds ({seeds}); "
        "abscissa change: shift of the spectral abscissa (1 / time unit) when the node's "
        "edges are strengthened."
    )
    edges = _one(tables["edges"], drawn)
    title = "Edges by sign, nodes by score"
    return graphs.plot_network(edges, values, title=title, caption=caption), values


def _walks(tables: Tables, drawn: str) -> Drawing:
    values = _one(tables["walks"], drawn).dropna(subset=["value"])
    caption = (
        f"{_title(drawn)}, n = {values['node'].nunique()} nodes, numbers: score. Two step walk: "
        "the released score, weights along all paths of two steps from the node over its squared "
        "degree, unitless; the return parameter cannot act, as the three nodes differ. Stationary "
        "visits: share of time that an endless biased walk spends at the node."
    )
    edges = _one(tables["edges"], drawn)
    figure = graphs.plot_network(
        edges, values, title="Biased walks on the signed network", caption=caption
    )
    return figure, values


def _spectrum(tables: Tables, drawn: str) -> Drawing:
    spectra, field = _one(tables["spectra"], drawn), _one(tables["pseudospectrum"], drawn)
    values = spectra[spectra["matrix"] == "state"]
    right = values["real"].max()
    caption = (
        f"{_title(drawn)}: n = {len(values)} eigenvalues (circles) of the state matrix; the "
        f"rightmost has real part {right:.3g} (1 / time unit). Colour: smallest singular "
        "value of z - A, which bounds the perturbation that moves an eigenvalue to z. "
        "Dashed: border of stability."
    )
    return graphs.plot_spectrum(values, field, caption=caption), field


def _motifs(tables: Tables, drawn: str) -> Drawing:
    costs = _one(tables["motifs"], drawn)
    caption = f"{_title(drawn)}, n = {costs['node'].nunique()} nodes. {_COST}"
    return graphs.plot_motif_costs(costs, caption=caption), costs


def _scores(tables: Tables, drawn: str) -> Drawing:
    scores = _one(tables["score_spread"], drawn)
    scores = scores[scores["factor"] == 1]
    caption = (
        f"{_title(drawn)}, n = {scores['node'].nunique()} nodes: mean and range of 95 % of "
        f"the seeds ({_seeds(tables, drawn)}). Random label: labels drawn anew each epoch; "
        "graph free: the forward pass never sees the graph; trained: attention that "
        "predicts simulated trajectories; rewired: the same on a rewired network."
    )
    return graphs.plot_scores(scores, caption=caption), scores


def _profiles(tables: Tables, drawn: str) -> Drawing:
    every = tables["rank_profiles"]
    profiles = every[every.groupby("dataset")["n"].transform("max") > 1]
    profiles = profiles[~profiles["score"].isin(_HIDDEN)]
    caption = (
        f"Networks: {span(profiles['n'])}. Nodes of each network are ranked by the change of "
        "growth that strengthening their edges causes; points are mean ranks, bars 95 % "
        "intervals over networks; the grey line is chance."
    )
    return graphs.plot_rank_profiles(profiles, caption=caption), profiles


def _associations(tables: Tables, drawn: str) -> Drawing:
    summary = tables["associations"].dropna(subset=["estimate"])
    summary = summary[~summary["score"].isin(_HIDDEN)]
    counts = summary.groupby("dataset", sort=False)["n"].max()
    sizes = ", ".join(f"{words(name)} {count}" for name, count in counts.items())
    caption = (
        f"n = {sizes} (networks of an ensemble, nodes of a single network). Bars: 95 % "
        "intervals, over networks or by Fisher's z over nodes; the bar of the random score in a "
        "single network holds 95 % of random scores. Polarity contrast: correlation with negative "
        "minus with positive loop gain."
    )
    return graphs.plot_associations(summary, caption=caption), summary


def _sign_effects(tables: Tables, drawn: str) -> Drawing:
    effects = tables["sign_effects"].dropna(subset=["correlation"])
    counts = effects.groupby("dataset", sort=False)["network"].nunique()
    sizes = ", ".join(f"{words(name)} {count}" for name, count in counts.items())
    caption = (
        f"n = {sizes} networks; signs are redrawn at fixed magnitudes: a network's own, or "
        "log-normal (number: standard deviation of the logarithm). Frustration: fewest edges whose "
        "change of sign leaves every cycle positive; correlations are over signings. Boxes: "
        "quartiles and median over networks, whiskers 5 and 95 %; circles: the single network. "
        "Abscissa, initial growth: largest eigenvalue of the matrix and of its symmetric part."
    )
    return graphs.plot_sign_effects(effects, caption=caption), effects


def _edge_sweep(tables: Tables, drawn: str) -> Drawing:
    swept = _one(tables["edge_sweeps"], drawn)
    swept = swept[swept["quantity"].isin(_SWEPT)]
    names = {"real": "real_part", "sensitivity": "abscissa_sensitivity"}
    shown = swept.assign(quantity=swept["quantity"].replace(names), edge=swept["edge"])
    caption = (
        f"{_title(drawn)}: {shown['edge'].nunique()} edges on which the spectral abscissa "
        "depends most. A factor of -1 turns the edge's sign, 0 removes it, 1 (grey) is the "
        "network itself. Lines: eigenvalues by falling real part (left), else nodes; all in "
        "1 / time unit."
    )
    figure = graphs.plot_sweep(
        shown,
        factor="factor of the weight",
        title="Eigenvalues and nodes as one edge changes",
        caption=caption,
    )
    return figure, shown


def _factor_sweep(tables: Tables, drawn: str) -> Drawing:
    spread = _one(tables["score_spread"], drawn)
    swept = spread[spread["score"].isin(("random_label", "graph_free"))]
    shown = swept.rename(columns={"score": "quantity", "node": "index", "estimate": "value"})
    shown = shown.assign(edge="features of node 0")
    caption = (
        f"{_title(drawn)}: mean released score of each node over {span(shown['seeds'])} "
        "seeds while the features of node 0 are multiplied by the perturbation factor; "
        "grey: as published. Scores are unitless."
    )
    figure = graphs.plot_sweep(
        shown,
        factor="perturbation factor",
        title="Released scores as node 0 is perturbed",
        caption=caption,
    )
    return figure, shown


def _seeds(tables: Tables, drawn: str) -> str:
    spread = _one(tables["score_spread"], drawn)
    counts = spread.groupby("score", sort=False)["seeds"].max()
    return ", ".join(f"{words(name)} {count}" for name, count in counts.items())


FIGURES: dict[str, Callable[[Tables, str], Drawing]] = {
    "network": _network,
    "spectrum": _spectrum,
    "motif_costs": _motifs,
    "walks": _walks,
    "attention_scores": _scores,
    "attention_instability": _profiles,
    "associations": _associations,
    "sign_effects": _sign_effects,
    "edge_sweep": _edge_sweep,
    "factor_sweep": _factor_sweep,
}
