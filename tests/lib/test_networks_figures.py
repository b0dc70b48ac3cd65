import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from patchwork.figures import theme
from patchwork.figures.networks import graphs, report
from patchwork.networks import cycles, data, tables

ACTUATOR = data.actuator().weights


def _tables():
    nodes = pd.DataFrame({"network": 0, "node": range(8), "abscissa_change": np.arange(8) / 9})
    scored = nodes.assign(random_label=0.1, graph_free=0.2, trained=np.arange(8.0))
    spread = pd.concat(
        pd.DataFrame(
            {"network": 0, "factor": f, "score": s, "node": range(8), "estimate": np.arange(8.0)}
        ).assign(low=lambda t: t.estimate - 1, high=lambda t: t.estimate + 1, seeds=7)
        for f in (1.0, 2.0)
        for s in ("random_label", "trained")
    )
    summary = pd.DataFrame(
        [
            (s, o, k, 0.2, 0.1, 0.3, 40)
            for s in ("trained", "degree")
            for o in ("abscissa_change", "frustration")
            for k in ("rank", "partial")
        ],
        columns=["score", "outcome", "kind", "estimate", "ci_low", "ci_high", "n"],
    )
    profiles = pd.DataFrame(
        [
            ("abscissa_change", s, r, 4.5, 4.0, 5.0, 40)
            for s in ("trained", "degree")
            for r in (1, 2)
        ],
        columns=["outcome", "score", "rank", "estimate", "ci_low", "ci_high", "n"],
    )
    one = [data.actuator()]
    made = {
        "edges": tables.per_network(one, tables.edges),
        "spectra": tables.per_network(one, lambda w: tables.spectral.spectra(w)),
        "motifs": tables.per_network(one, cycles.motif_costs),
        "pseudospectrum": tables.per_network(one, lambda w: tables.pseudospectra(w, 7)),
        "edge_sweeps": tables.per_network(one, lambda w: tables.edge_sweeps(w, [-1, 0, 1, 2], 2)),
        "scored_nodes": scored,
        "score_spread": spread,
        "associations": summary,
        "rank_profiles": profiles,
        "walks": tables.per_network(one, lambda w: tables.two_step(w, 0.8, 0.1)),
        "sign_effects": pd.DataFrame(
            [
                (n, law, outcome, -0.1 * n)
                for n in range(3)
                for law in ("own", "lognormal_1")
                for outcome in ("abscissa", "nonnormality")
            ],
            columns=["network", "law", "outcome", "correlation"],
        ),
    }
    return {name: table.assign(dataset="actuator") for name, table in made.items()}


@pytest.mark.parametrize("name", list(report.FIGURES))
def test_every_figure_is_drawn_with_title_caption_and_rows(name, tmp_path, monkeypatch):
    monkeypatch.setitem(theme.STYLE, "savefig.dpi", 40)  # pixels take most of the time
    figure, shown = report.draw(name, _tables(), "actuator")
    assert len(shown)
    assert theme.text_of(figure, "title")
    assert theme.text_of(figure, "caption").endswith(".")
    svg, png = theme.save(figure, tmp_path / name)
    assert svg.stat().st_size > 1000
    assert png.stat().st_size > 1000
    _check_apart(figure)


def _check_apart(figure: Figure):
    """The legend's strip lies between the title and the panels."""
    figure.draw_without_rendering()
    title = next(t for t in figure.texts if t.get_gid() == "title").get_window_extent()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.y1 <= title.y0 + 1
        for axes in figure.axes:
            assert axes.get_window_extent().y1 <= box.y0 + 1


def test_captions_read_their_numbers_from_the_tables():
    figure, _ = report.draw("spectrum", _tables(), "actuator")
    right = np.linalg.eigvals(ACTUATOR).real.max()
    assert f"{right:.3g}" in theme.text_of(figure, "caption")
    figure, _ = report.draw("attention_instability", _tables(), "actuator")
    assert "Networks: 40." in theme.text_of(figure, "caption")


def test_bars_are_the_costs():
    costs = cycles.motif_costs(ACTUATOR)
    figure = graphs.plot_motif_costs(costs, caption="c.")
    first = figure.axes[0]
    drawn = sorted(bar.get_height() for bar in first.patches)
    np.testing.assert_allclose(drawn, sorted(costs[costs["length"] == "3"]["cost"]))


def test_negative_edges_are_dashed():
    edges = tables.edges(ACTUATOR)
    nodes = pd.DataFrame({"score": "s", "node": range(8), "value": np.arange(8.0)})
    figure = graphs.plot_network(edges, nodes, title="t", caption="c.")
    arrows = [p for p in figure.axes[0].patches if hasattr(p, "get_arrowstyle")]
    off = ACTUATOR - np.diag(np.diag(ACTUATOR))
    assert len(arrows) == np.count_nonzero(off)
    assert sum(a.get_linestyle() != "-" for a in arrows) == (off < 0).sum()


def test_bad_frames_and_names_are_refused():
    with pytest.raises(ValueError, match="plot_scores"):
        graphs.plot_scores(pd.DataFrame({"score": []}), caption="c.")
    with pytest.raises(ValueError, match="figure: 'other'"):
        report.draw("other", _tables(), "actuator")
