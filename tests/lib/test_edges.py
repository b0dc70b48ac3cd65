"""Edges from one gradient against the exact sweep of paths, receiver by receiver."""

import architecture_models as architectures
import intervention_models as models
import numpy as np
import pandas as pd
import pytest
import torch
from patchwork.interventions import LogitDifference, circuits, correlation, edge_sweep, path_sweep
from patchwork.models import sites

KEYS = ["component", "layer", "head", "receiver"]


ALL = ("*.q.*", "*.k.*", "*.v.*", "*.mlp_out")


def exact(model, clean, corrupted, metric, names, **options):
    """Mean effect of edges, one receiver at a time."""
    frames = []
    for receiver in ["logits", *sites.resolve(model, list(names))]:
        try:
            found = path_sweep(model, clean, corrupted, metric, receiver, **options)
        except ValueError:  # nothing comes before the first layer's
            continue
        means = found.groupby(KEYS[:3]).effect.mean().reset_index()
        frames.append(means.assign(receiver=str(receiver)))
    return pd.concat(frames)


def both(model, *data, names=ALL, **options):
    quick = edge_sweep(model, *data, **options)
    options.pop("fix", None)
    merged = exact(model, *data, names, **options).merge(
        quick, on=KEYS, how="outer" if names == ALL else "left", suffixes=("", "_quick"),
        validate="1:1",
    )  # fmt: skip
    assert not merged.isna().any().any()
    return merged


def test_the_edges_of_the_induction_circuit_are_found_behind_saturated_attention():
    known, data = circuits.induction(), circuits.induction_prompts(8, seed=0)
    frame = both(known.model, *data)
    kind = frame.receiver.str.replace(r"\d", "", regex=True)
    largest = frame.loc[frame.effect_quick.abs().nlargest(2).index]
    assert {(x.layer, x.head, x.receiver) for x in largest.itertuples()} == {
        (0, 0, "1.k.0"), (1, 0, "logits")
    }  # fmt: skip
    assert correlation(frame.effect_quick.to_numpy(), frame.effect.to_numpy()) > 0.99
    plain = edge_sweep(known.model, *data, fix=False)
    assert plain.effect[plain.receiver == "1.k.0"].abs().max() < 0.01 * frame.effect.abs().max()
    logits = frame[kind == "logits"]
    np.testing.assert_allclose(logits.effect_quick, logits.effect, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "pythia", "gpt-neo"])
def test_estimates_of_small_steps_are_the_exact_paths(name):
    model = architectures.make(name)
    architectures.pair_tokens(model)
    source, base = architectures.near(name, 2)
    for options in ({}, {"fix": False, "direction": "corrupted_to_clean"}):
        names = ("1.k.2", "2.q.1", "2.k.0", "2.v.3", "1.mlp_out")
        frame = both(model, source, base, architectures.metric, names=names, **options)
        off = (frame.effect_quick - frame.effect).abs().max()
        assert off < 0.05 * frame.effect.abs().max()


def test_estimates_follow_the_exact_paths_of_a_random_model():
    model = models.gpt2(layers=2, heads=2)
    clean, corrupted = (architectures.inputs("llama", seed=i) for i in range(2))
    metric = LogitDifference(torch.arange(5), torch.arange(5) + 20)
    frame = both(model, clean, corrupted, metric)
    assert correlation(frame.effect_quick.to_numpy(), frame.effect.to_numpy()) > 0.9


def test_models_with_norms_behind_their_layers_are_refused():
    model, ids = architectures.make("bert"), architectures.inputs("bert")
    with pytest.raises(ValueError, match="edge_sweep: BERT has norms behind its layers"):
        edge_sweep(model, ids, ids, architectures.metric)
