"""Patching at tokens of each example's own; each prompt alone, without padding, is the judge."""

import architecture_models as architectures
import intervention_models as models
import numpy as np
import pytest
import torch
from patchwork.interventions import PatchGrid, attribution_sweep, load, patch_sweep
from patchwork.models import sites

ALL = ("resid_pre", "attn_out", "mlp_out", "head_out")
# Lengths of clean and corrupted prompts, and where each has its subject.
LENGTHS = np.array([[5, 7, 6, 4], [6, 8, 4, 5]])
SUBJECT = np.array([[1, 3, 2, 0], [2, 3, 1, 2]])


def prompts(seed=0):
    """Clean and corrupted prompts, each of its own length."""
    rng = np.random.default_rng(seed)
    return [[torch.tensor(rng.integers(1, 40, size=t)) for t in row] for row in LENGTHS]


def padded(some, side, positions):
    """One batch, and how far each prompt was moved."""
    width = max(map(len, some))
    ids, mask = (torch.zeros(len(some), width, dtype=torch.int64) for _ in range(2))
    moved = []
    for i, one in enumerate(some):
        start = width - len(one) if side == "left" else 0
        ids[i, start : start + len(one)] = one
        mask[i, start : start + len(one)] = 1
        moved.append(start)
    batch = {"input_ids": ids, "attention_mask": mask}
    if positions:
        batch["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return batch, np.array(moved)


def last_metric(output, rows):
    return output.logits[:, -1, 3] - 2 * output.logits[:, -1, 4]


def hooked(model, ids, module, edit, enters):
    """Metric of one prompt alone while a plain hook edits a module's input or output."""

    def enter(m, args):
        return (edit(args[0].clone()), *args[1:])

    def leave(m, args, output):
        return edit(output.clone())

    add = module.register_forward_pre_hook if enters else module.register_forward_hook
    handle = add(enter if enters else leave)
    try:
        with torch.no_grad():
            return float(last_metric(model(ids[None]), None)[0])
    finally:
        handle.remove()


def alone(model, base, source, places, component, layer, head):
    """Effect in one pair: (base place, source place) of unpadded prompts."""
    anatomy = sites.find(model)
    parts = anatomy.blocks[layer]
    module = {"resid_pre": parts.block, "mlp_out": parts.mlp_last}.get(component, parts.proj)
    enters = component in ("resid_pre", "head_out")
    width = anatomy.d_head
    part = slice(None) if head is None else slice(head * width, (head + 1) * width)
    kept = []

    def keep(x):
        kept.append(x.clone())
        return x

    def edit(x):
        whole = x.view(1, -1, x.shape[-1])
        whole[0, places[0], part] = kept[0].view(1, -1, x.shape[-1])[0, places[1], part]
        return x

    hooked(model, source, module, keep, enters)
    with torch.no_grad():
        before = float(last_metric(model(base[None]), None)[0])
    return hooked(model, base, module, edit, enters) - before


def make(name):
    if name == "gpt2":
        return models.gpt2(heads=2)
    return architectures.make(name).double()


@pytest.mark.parametrize("direction", ["clean_to_corrupted", "corrupted_to_clean"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
def test_padded_pairs_are_patched_as_each_pair_alone(name, direction):
    model, (clean, corrupted) = make(name), prompts()
    batches = [padded(x, "left", name == "gpt2") for x in (clean, corrupted)]
    moved = np.stack([shift for _, shift in batches])
    named = {"subject": SUBJECT + moved, "last": LENGTHS - 1 + moved}
    grid = PatchGrid(ALL, named, direction)
    sweep = patch_sweep(model, batches[0][0], batches[1][0], last_metric, grid=grid)
    assert sweep.positions == ("subject", "last")
    assert sweep.metadata["path"] == "plain"
    swap = direction == "clean_to_corrupted"
    base, source = (corrupted, clean) if swap else (clean, corrupted)
    for component in ALL:
        values = sweep.values[component]
        for i, where in enumerate((SUBJECT, LENGTHS - 1)):
            for row in range(4):
                places = where[::-1, row] if swap else where[:, row]
                head = 1 if values.ndim == 4 else None
                want = alone(model, base[row], source[row], places, component, 1, head)
                got = values[1, 1, i, row] if values.ndim == 4 else values[1, i, row]
                assert got == pytest.approx(want, abs=1e-6), (component, i, row)
        assert np.abs(values).max() > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prompts_padded_on_the_right_too(name):
    model, rows = make(name), torch.arange(4)
    clean, corrupted = prompts()
    corrupted = [one[: len(other)] for one, other in zip(prompts(1)[0], clean, strict=True)]
    batches = [padded(x, "right", False)[0] for x in (clean, corrupted)]
    ends = torch.tensor(LENGTHS[0] - 1)

    def metric(output, rows):
        last = output.logits[torch.arange(len(rows)), ends[rows]]
        return last[:, 3] - 2 * last[:, 4]

    grid = PatchGrid(("attn_out",), {"subject": SUBJECT[0]})
    sweep = patch_sweep(model, *batches, metric, grid=grid)
    quick = attribution_sweep(model, *batches, metric, grid=grid)
    for row in rows.tolist():
        places = (SUBJECT[0, row],) * 2
        want = alone(model, corrupted[row], clean[row], places, "attn_out", 1, None)
        assert sweep.values["attn_out"][1, 0, row] == pytest.approx(want, abs=1e-6)
        own = attribution_sweep(
            model, clean[row][None], corrupted[row][None], last_metric,
            grid=PatchGrid(("attn_out",), (int(places[0]),)),
        )  # fmt: skip
        np.testing.assert_allclose(
            quick.values["attn_out"][:, 0, row], own.values["attn_out"][:, 0, 0], atol=1e-6
        )


def test_names_of_shared_tokens_are_those_tokens(tmp_path):
    model = models.gpt2()
    clean, corrupted = torch.randint(0, 50, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    grids = [PatchGrid(ALL, {"a": [2] * 5, "b": [4] * 5}), PatchGrid(ALL, (2, 4))]
    for sweep in (patch_sweep, attribution_sweep):
        named, plain = (sweep(model, clean, corrupted, last_metric, grid=grid) for grid in grids)
        for component in ALL:
            np.testing.assert_allclose(named.values[component], plain.values[component], atol=1e-9)
    assert set(named.frame()["position"]) == {"a", "b"}
    named.save(tmp_path / "named.parquet")
    assert load(tmp_path / "named.parquet").positions == ("a", "b")


def test_all_of_opts_components_are_attributed():
    """Its MLP takes all tokens of a batch as rows of one matrix."""
    model, base = architectures.make("opt"), architectures.inputs("opt")
    source = architectures.inputs("opt", seed=1)
    for method in ("gradient", "relp"):
        sweep = attribution_sweep(model, source, base, architectures.metric, method=method)
        assert sweep.values["mlp_out"].shape == (3, 7, 5)


def test_pairs_that_cannot_be_aligned_are_refused():
    model = models.gpt2()
    one, other = (padded(prompts()[0], side, False)[0] for side in ("left", "right"))

    def refused(message, grid=None, of=(one, other), sweep=patch_sweep, **options):
        with pytest.raises(ValueError, match=message):
            sweep(model, *of, last_metric, grid=grid, **options)

    refused("padded at different tokens in example 0; allowed is the same padding, or positions")
    named = {"subject": [[0] * 4, [1] * 4]}
    refused("positions of 'subject': token 0 of clean example 0 is outside its prompt",
            PatchGrid(positions=named))  # fmt: skip
    refused("'subject': token 9 of corrupted example 1", PatchGrid(
        positions={"subject": [[6] * 4, [4, 9, 5, 3]]}))  # fmt: skip
    ids = torch.ones(4, 6, dtype=torch.int64)
    refused("'s' are of 3 examples; allowed is 4", PatchGrid(positions={"s": [1] * 3}), (ids, ids))
    refused("has 4 examples and corrupted 3", PatchGrid(positions={"s": [1] * 4}), (ids, ids[:3]))
    refused("steps is 2 with positions by name", PatchGrid(positions={"s": [1] * 4}), (ids, ids),
            attribution_sweep, steps=2)  # fmt: skip
    refused("components holds v with positions by name", PatchGrid(("v",), {"s": [1] * 4}),
            (ids, ids), attribution_sweep)  # fmt: skip
    for wrong in ([[1, 2]] * 3, [0.5], [-1, 2]):
        with pytest.raises(ValueError, match="allowed is one token from 0 for each example"):
            PatchGrid(positions={"s": wrong})
    with pytest.raises(ValueError, match="positions names none"):
        PatchGrid(positions={})
