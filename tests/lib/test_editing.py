"""Edits change what they should and nothing else."""

import copy

import architecture_models as architectures
import knowledge_models as known
import numpy as np
import pytest
import torch
from patchwork.analysis.knowledge import questions
from patchwork.interventions import editing, read

RNG = np.random.default_rng(0)


def tensor(*shape):
    return torch.from_numpy(RNG.standard_normal(shape))


def moment(d=6, n=200):
    scales = torch.logspace(-1, 1, d, dtype=torch.float64)
    return editing.second_moment(tensor(n, d) * scales)


def test_the_edited_matrix_maps_the_key_to_the_value_and_is_the_smallest_change():
    weight, key, value, found = tensor(6, 4), tensor(6), tensor(4), moment()
    direction = editing.directions(found, key[None])[0]
    change = editing.rank_one(weight, key, value, direction)
    np.testing.assert_allclose(key @ (weight + change), value, rtol=1e-10)
    # The same as the least-squares solution of smallest norm of `root^-1 key @ X = residual`.
    root = torch.linalg.cholesky(found.matrix).T  # root.T @ root is the second moment
    row = torch.linalg.solve(root.T, key)[None].numpy()
    residual = (value - key @ weight)[None].numpy()
    smallest = np.linalg.lstsq(row, residual, rcond=None)[0]
    np.testing.assert_allclose(root @ change, smallest, rtol=1e-8, atol=1e-10)


def test_a_planted_memory_is_edited_and_its_neighbours_are_not():
    keys = torch.linalg.qr(tensor(8, 8))[0][:5]
    values = tensor(5, 3)
    weight = keys.T @ values
    exact = editing.Moment(keys.T @ keys + 1e-6 * torch.eye(8), 0.0, 1.0, 5)
    direction = editing.directions(exact, keys[:1])[0]
    new = tensor(3)
    changed = weight + editing.rank_one(weight, keys[0], new, direction)
    np.testing.assert_allclose(keys[0] @ changed, new, rtol=1e-9)
    np.testing.assert_allclose(keys[1:] @ changed, values[1:], atol=1e-9)


def test_the_two_keys_map_the_value_from_different_places():
    weight, bare, value, found = tensor(6, 4), tensor(6), tensor(4), moment()
    mean = bare + 0.3 * tensor(6)
    direction = editing.directions(found, mean[None])[0]
    for key, other in ((bare, mean), (mean, bare)):
        new = weight + editing.rank_one(weight, key, value, direction)
        np.testing.assert_allclose(key @ new, value, rtol=1e-9)
        assert (other @ new - value).norm() > 1e-3


def test_a_direction_that_misses_the_key_is_refused():
    with pytest.raises(ValueError, match="orthogonal"):
        editing.rank_one(tensor(2, 2), torch.tensor([1.0, 0.0]), tensor(2), torch.tensor([0.0, 1]))


def test_the_second_moment_is_not_centred_and_says_its_condition():
    keys = tensor(4000, 3) * 0.1 + torch.tensor([1.0, 2.0, 0.0])
    found = editing.second_moment(keys)
    np.testing.assert_allclose(found.matrix, keys.T @ keys / 4000, atol=0.02)
    values = torch.linalg.eigvalsh(found.matrix)
    assert found.condition == pytest.approx(float(values[-1] / values[0]))
    assert found.n_tokens == 4000


def test_conv1d_is_a_linear_layer_with_a_transposed_weight():
    module = editing.projection(known.untrained().requires_grad_(False), 0)
    linear = torch.nn.Linear(*module.weight.shape)
    linear.weight.data, linear.bias.data = module.weight.data.T, module.bias.data
    x = torch.randn(3, 5, module.weight.shape[0])
    assert float((module(x) - linear(x)).abs().max()) < 1e-6


@pytest.fixture(scope="module")
def prepared():
    model = known.trained()
    (asked,) = questions.about_facts(known.facts(), known.tokenizer(), 0)
    some = asked.take(np.arange(4))
    prefixes = editing.sampled_prefixes(model, int(some.clean[0, 0]), (2, 4), 3, seed=0)
    contexts = editing.in_contexts(some.clean, some.roles[:, 1], prefixes, pad=0)
    return model, asked, some, contexts


def test_prompts_behind_prefixes_keep_subject_and_end(prepared):
    _, _, some, contexts = prepared
    assert len(contexts.ids) == 7 * len(some.clean)
    assert contexts.bare.sum() == len(some.clean)
    for row in range(len(contexts.ids)):
        fact = contexts.fact[row]
        at = (contexts.subject[row], contexts.last[row])
        assert [int(contexts.ids[row, i]) for i in at] == [
            int(some.clean[fact, some.roles[fact, 1]]), int(some.clean[fact, -1])
        ]  # fmt: skip


def test_edits_change_one_fact_and_the_model_comes_back(prepared):
    model, asked, some, contexts = prepared
    layer, before = 0, {k: v.clone() for k, v in model.state_dict().items()}
    texts = known.rows().clamp(min=0)
    keys = editing.keys_at(model, layer, texts, torch.ones(len(texts), dtype=int))  # the subject
    found = editing.second_moment(keys)
    options = editing.Optimiser(steps=20, decay=0.5)
    changes = editing.rome(model, layer, (contexts, contexts), some.wrong, found, options)

    def right():
        log_p = model(asked.clean).logits[:, -1].log_softmax(-1)
        return log_p.argmax(-1), log_p.gather(1, asked.right[:, None])[:, 0]

    _, before_edit = right()
    for name in editing.KEYS:
        hits, own, others = 0, 0.0, 0.0
        for i, change in enumerate(changes[name]):
            assert torch.linalg.matrix_rank(change) == 1
            with editing.edited(model, layer, change):
                said, after_edit = right()
            hits += int(said[i] == some.wrong[i])
            lost = before_edit - after_edit
            own, others = own + float(lost[i]), others + float(lost[8:].mean())
        assert hits >= 3
        assert own > 2 * others
    random = editing.random_rank_one(changes["mean"][0], seed=1)
    assert float(random.norm()) == pytest.approx(float(changes["mean"][0].norm()), rel=1e-5)
    after = model.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_constrained_tuning_keeps_its_bound_and_lowers_the_loss(prepared):
    model, _, some, _ = prepared
    weight = editing.projection(model, 1).weight
    old = weight.clone()
    change = editing.constrained_tuning(
        model, 1, some.clean[0], int(some.wrong[0]), learning_rate=5e-3, bound=2e-2
    )
    assert torch.equal(weight, old)
    assert not weight.requires_grad
    assert 0 < float(change.abs().max()) <= 2e-2 + 1e-7

    def loss():
        with torch.no_grad():
            return -float(model(some.clean[:1]).logits.log_softmax(-1)[0, -1, some.wrong[0]])

    before = loss()
    with editing.edited(model, 1, change):
        assert loss() < before - 0.5


def with_linear(model):
    """The same function, each MLP's last layer an `nn.Linear`."""
    twin = copy.deepcopy(model)
    for block in twin.transformer.h:
        own = block.mlp.c_proj
        linear = torch.nn.Linear(*own.weight.shape)
        linear.weight.data, linear.bias.data = own.weight.data.T.contiguous(), own.bias.data.clone()
        block.mlp.c_proj = linear
    return twin.eval()


def test_both_orientations_give_the_same_edited_function(prepared):
    model, _, some, contexts = prepared
    twin, options = with_linear(model), editing.Optimiser(steps=5)
    texts = known.rows().clamp(min=0)
    found = editing.second_moment(
        editing.keys_at(model, 0, texts, torch.ones(len(texts), dtype=int))
    )
    both = [
        editing.rome(one, 0, (contexts, contexts), some.wrong, found, options)
        for one in (model, twin)
    ]
    tuned = [editing.constrained_tuning(one, 0, some.clean[0], 3, steps=2) for one in (model, twin)]
    pairs = [tuple(tuned)]
    for name in editing.KEYS:
        pairs += zip(*(changes[name] for changes in both), strict=True)
    with torch.no_grad():
        plain = model(some.clean).logits
        for own, other in pairs:
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
            with editing.edited(model, 0, own), editing.edited(twin, 0, own):
                edited, same = model(some.clean).logits, twin(some.clean).logits
            torch.testing.assert_close(edited, same, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(edited, plain, atol=1e-3)
        assert torch.equal(twin.transformer.h[0].mlp.c_proj.weight.T,
                           model.transformer.h[0].mlp.c_proj.weight)  # fmt: skip


def test_a_llama_is_edited_though_its_projection_has_no_bias():
    model, prompts = architectures.make("llama"), architectures.inputs("llama", n=6)
    keys = editing.keys_at(model, 0, prompts, torch.arange(6))
    contexts = editing.in_contexts(prompts, torch.full((6,), 3), [prompts[0, :1]], pad=0)
    wanted = torch.arange(6) + 10
    options = editing.Optimiser(steps=20)
    found = editing.second_moment(keys)
    changes = editing.rome(model, 0, (contexts, contexts), wanted, found, options)["bare"]
    values = editing.best_values(model, 0, contexts, wanted, options)
    before = model.state_dict()["model.layers.0.mlp.down_proj.weight"].clone()
    for fact, change in enumerate(changes):
        assert change.shape == (48, 32)  # inputs first, whatever the module keeps
        with editing.edited(model, 0, change):
            (now,) = read(model, "0.mlp_out@3", prompts[fact][None]).values()
        torch.testing.assert_close(now[0, 0], values[fact], rtol=1e-3, atol=1e-3)
    (own,) = read(model, "0.mlp_out@3", prompts).values()
    assert float((own[:, 0] - values).norm(dim=1).min()) > 0.1
    assert torch.equal(before, model.state_dict()["model.layers.0.mlp.down_proj.weight"])


def test_a_projection_of_another_class_is_refused():
    model = known.untrained()
    model.transformer.h[0].mlp.c_proj = torch.nn.Sequential(torch.nn.Linear(128, 32))
    model.transformer.h[0].mlp.c_proj.in_features = 128
    with pytest.raises(ValueError, match="ends in a Sequential; allowed is Linear or Conv1D"):
        editing.output_matrix(model.eval(), 0)
