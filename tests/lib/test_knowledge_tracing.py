"""Tracing finds what was planted, and says where nothing can be found."""

import knowledge_models as known
import numpy as np
import pandas as pd
import pytest
import torch
from patchwork.analysis.knowledge import measures, questions, released, tracing
from patchwork.interventions import editing

FACTS = known.facts()
ACCEPTED = questions.accepted(FACTS, known.tokenizer())


def asked():
    return [questions.about_facts(FACTS, known.tokenizer(), k) for k in (0, 1)]


@pytest.fixture(scope="module")
def traced():
    model = known.trained()
    return model, asked(), tracing.traces(model, asked(), task="fact")


def test_questions_differ_in_the_subject_alone():
    for one in (part for group in asked() for part in group):
        differs = one.clean != one.corrupted
        place = torch.arange(one.clean.shape[1])
        inside = (place >= one.roles[:, :1]) & (place <= one.roles[:, 1:2])
        assert differs.any(1).all()
        assert not differs[~inside].any()


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [("botan is a", "one length"), ("botan is one kind of", "allowed is 1 to 1, the subject"),
     ("borek is a kind of", "differs")],
)  # fmt: skip
def test_prompts_that_cannot_be_compared_are_refused_by_name(prompt, complaint):
    wrong = FACTS.assign(prompt_0=FACTS["prompt_0"].where(FACTS["fact"] != 0, prompt))
    with pytest.raises(ValueError, match=complaint):
        questions.about_facts(wrong, known.tokenizer(), 0)


def test_subjects_of_several_tokens_are_found():
    text = "by rule xyxyxq is one"
    first, last = questions.span_of(known.tokenizer(), text, "xyxyxq")
    spelled = known.tokenizer().encode(text).tokens[first - 1 : last]
    assert "".join(spelled).removeprefix("\u0120") == "xyxyxq"
    assert last > first > 2


def test_facts_are_used_only_where_the_network_knows_them(traced):
    model, sets, _ = traced
    found = tracing.knowledge(model, sets, ACCEPTED, 1.0)
    assert (found["status"] == "used").all()
    strict = tracing.knowledge(model, sets, ACCEPTED, 1e3)
    assert (strict["status"] == "small_gap").all()
    blank = tracing.knowledge(known.untrained(), sets, ACCEPTED, 1.0)
    assert (blank["status"] == "not_known").all()


def test_the_residual_stream_of_the_whole_subject_is_the_input_itself(traced):
    _, _, traces = traced
    first = traces[
        (traces["component"] == "resid_pre")
        & (traces["layer"] == 0)
        & (traces["role"] == "subject_last")
        & (traces["direction"] == "clean_to_corrupted")
    ]
    np.testing.assert_allclose(first["effect"], first["gap"], atol=1e-4)
    seeds = np.zeros(len(first))
    found = measures.recovery(first["effect"].to_numpy(), first["gap"].to_numpy(), seeds)
    assert found.estimate == pytest.approx(100, abs=0.01)


def test_sites_patched_together_agree_with_the_sweep(traced):
    model, sets, traces = traced
    together = tracing.Together(model, [part for group in sets for part in group])
    for place in (("mlp_out", 0, "subject_last"), ("attn_out", 1, "last")):
        own = traces[traces["direction"] == "clean_to_corrupted"]
        own = own.set_index(["component", "layer", "role", "fact"])["effect"].loc[place]
        np.testing.assert_allclose(together.recovered([place]).loc[own.index], own, atol=1e-4)
    last = [(name, layer, "last") for name in tracing.SET_COMPONENTS for layer in range(3)]
    np.testing.assert_allclose(together.recovered(last), together.gap, atol=1e-4)


def test_windows_hold_their_layers(traced):
    model, sets, _ = traced
    together = tracing.Together(model, sets[0])
    found = tracing.windows(together, 3, ["last"], [2, 3])
    whole = found[(found["width"] == 3) & (found["component"] == "mlp_out")]
    assert list(found["width"].unique()) == [2, 3]
    assert whole["layer"].unique().tolist() == [0]
    places = [("mlp_out", layer, "last") for layer in range(3)]
    np.testing.assert_allclose(whole["effect"], together.recovered(places), atol=1e-5)


def test_facts_planted_in_one_layer_are_found_there():
    layer = 2
    model, sets = known.trained(layer), asked()
    traces = tracing.traces(model, sets, task="fact", both=False)
    mlps = traces[traces["component"] == "mlp_out"]
    assert measures.best_layer(mlps) == layer
    halves = FACTS.set_index("fact")["split_half"]
    parts = [part for group in sets for part in group]
    curves = tracing.minimal_sets(model, parts, traces, halves, share=0.8, most=8)
    assert measures.named_layer(curves) == layer


def test_a_wrong_donor_does_not_restore_the_answer(traced):
    model, sets, traces = traced
    found = tracing.controls(model, sets, seed=0, noise=3.0)
    place = "component == 'resid_pre' and layer == 0 and role == 'subject_last'"
    right = traces.query(place + " and direction == 'clean_to_corrupted'")
    wrong = found.query(place + " and task == 'wrong_donor'")
    noise = found.query(place + " and task == 'noise'")
    assert wrong["effect"].mean() < 0.7 * right["effect"].mean()
    assert noise["gap"].mean() > 0.5
    np.testing.assert_allclose(noise["effect"], noise["gap"], atol=1e-4)
    rows = questions.donors(sets[0][0], seed=1)
    one = sets[0][0]
    assert (one.right[rows] != one.right).all()
    assert (one.right[rows] != one.wrong).all()


def test_before_an_appended_answer_both_runs_are_the_same(traced):
    model, sets, _ = traced
    found = tracing.after_the_answer(model, sets[0][0])
    before = found[found["role"] != "last"]
    assert (before["effect"] == 0).all()
    whole = found.query("component == 'resid_pre' and layer == 0 and role == 'last'")
    np.testing.assert_allclose(whole["effect"], whole["gap"], atol=1e-4)


def test_attribution_says_how_well_it_agrees(traced):
    model, sets, _ = traced
    found = tracing.attribution_correlation(model, sets[0][0], 8)
    assert set(found) == set(tracing.COMPONENTS)
    assert all(-1 <= r <= 1 for r in found.values())


def test_outputs_that_are_the_answer_restore_it_in_any_network():
    """Patching what the logits are made of is an identity: an untrained model gives 100 % too."""
    model, one = known.untrained().requires_grad_(False), asked()[0][0]
    rows = torch.arange(len(one.fact))
    clean, corrupted = (one.metric(model(x), rows) for x in (one.clean, one.corrupted))
    assert float((clean - corrupted).abs().min()) > 0
    for name in ("lm_head", "transformer.ln_f"):
        module, kept = model.get_submodule(name), []
        handle = module.register_forward_hook(lambda m, a, out, kept=kept: kept.append(out.clone()))
        model(one.clean)
        handle.remove()

        def put(module, args, out, kept=kept):
            new = out.clone()
            new[:, -1] = kept[0][:, -1]
            return new

        handle = module.register_forward_hook(put)
        patched = one.metric(model(one.corrupted), rows)
        handle.remove()
        np.testing.assert_allclose((patched - corrupted) / (clean - corrupted), 1, atol=1e-3)
    for layer in range(3):
        site = tracing.Site("resid_pre", layer)
        kept = tracing.read(model, site, one.clean)[site]
        with tracing.ablate(model, site, lambda s, x, r, kept=kept: kept):
            patched = one.metric(model(one.corrupted), rows)
        np.testing.assert_allclose((patched - corrupted) / (clean - corrupted), 1, atol=1e-3)


def test_the_released_hooks_name_one_module_or_one_per_shape():
    model = known.untrained(layers=3)
    one = asked()[0][0]
    pair = (torch.cat([one.clean[0], one.right[:1]]), torch.cat([one.clean[1], one.wrong[:1]]))
    found = released.recovery(model, *pair, [int(one.right[0])], [int(one.wrong[0])])
    linear = found[found["variant"] == "linear"]
    assert linear["n_modules"].tolist() == [1]
    np.testing.assert_allclose(linear["recovery"], 100, atol=1e-3)
    both = found[found["variant"] == "linear_and_conv1d"]
    assert sorted(both["n_modules"]) == [1, 3, 3, 3, 3]
    by_text = released.modules_by_text(model, "linear_and_conv1d")
    assert by_text[str(model.transformer.h[0].mlp.c_proj)] is editing.projection(model, 2)


def test_equal_gaps_leave_both_groups_alike():
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], 200)
    gap = rng.normal(np.where(group == "a", 3, 2), 1)
    rows = measures.equal_gaps(gap, group, bins=8, seed=0)
    means = pd.Series(gap[rows]).groupby(group[rows]).mean()
    assert abs(means["a"] - means["b"]) < 0.2
    assert (group[rows] == "a").sum() == (group[rows] == "b").sum() > 50
