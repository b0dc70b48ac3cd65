"""Estimates of patching effects: correlation with the exact sweep, cost, circuits that they find.

python benchmarks/estimates.py
"""

import argparse
import time

import numpy as np
import pandas as pd
import torch
from paired import machine
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    attribution_sweep,
    circuits,
    correlation,
    edge_sweep,
    faithfulness,
    node_scores,
    patch_sweep,
    path_sweep,
)
from patchwork.models import sites
from transformers import GPT2Config, GPT2LMHeadModel

FAST = ("resid_pre", "attn_out", "mlp_out", "head_out")
WITHIN = ("q", "k", "v")
METHODS = {
    "gradient": {}, "integrated gradients, 8 steps": {"steps": 8}, "qk_fix": {"method": "qk_fix"},
    "relp": {"method": "relp"},
}  # fmt: skip


def random_gpt2(sharper: float, pairs: int, tokens: int, width: int, layers: int):
    """A random GPT-2, its queries and keys made larger, and random prompts."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=width, n_layer=layers, n_head=width // 32, vocab_size=1000)
    model = GPT2LMHeadModel(config).eval()
    for parameter in model.parameters():
        parameter.data = torch.where(parameter == 1, parameter, 4 * parameter)
    for block in model.transformer.h:
        block.attn.c_attn.weight.data[:, : 2 * width] *= sharper
    clean, corrupted = torch.randint(0, 1000, (2, pairs, tokens))
    return model, clean, corrupted, LogitDifference(torch.arange(pairs), torch.arange(pairs) + 100)


def timed(run, repeats: int = 3):
    """Result and time of the fastest call, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - started)
    return result, min(times)


def compare(title: str, model, clean, corrupted, metric) -> None:
    """One table: each method's correlation over all cells and pairs, and its time."""
    grids = [PatchGrid(FAST), PatchGrid(WITHIN)]
    data = (model, clean, corrupted, metric)
    exact = [timed(lambda g=g: patch_sweep(*data, grid=g), 1) for g in grids]
    print(f"\n### {title}\n{machine()}\n")
    print("| method | seconds | exact / it | " + " | ".join(f"r {x}" for x in FAST + WITHIN) + " |")
    print("|---|---|---|" + "---|" * 7)
    total = sum(seconds for _, seconds in exact)
    print(f"| exact | {total:.2f} | 1 |" + " 1 |" * 7)
    for name, options in METHODS.items():
        inside = {"relp": ("v",), "integrated gradients, 8 steps": ()}.get(name, WITHIN)
        grid = PatchGrid(FAST + inside)
        quick, seconds = timed(lambda g=grid, o=options: attribution_sweep(*data, grid=g, **o))
        cells = []
        for component in FAST + WITHIN:
            truth = exact[component in WITHIN][0].values[component]
            found = quick.values.get(component)
            cells.append("-" if found is None else f"{correlation(found, truth):.3f}")
        print(f"| {name} | {seconds:.3f} | {total / seconds:.0f} | " + " | ".join(cells) + " |")


def compare_edges(title: str, model, *data) -> None:
    """One table: edges from one gradient against the exact paths, receiver by receiver."""
    columns = ["component", "layer", "head", "receiver"]

    def exact():
        frames = []
        receivers = sites.resolve(model, ["*.q.*", "*.k.*", "*.v.*", "*.mlp_out"])
        for receiver in ["logits", *receivers]:
            if str(receiver).startswith("0.") and "mlp" not in str(receiver):
                continue  # nothing comes before
            found = path_sweep(model, *data, receiver)
            frames.append(found.assign(receiver=str(receiver)))
        return pd.concat(frames).groupby(columns).effect.mean().reset_index()

    truth, total = timed(exact, 1)
    print(f"\n### {title}: {len(truth)} edges\n{machine()}\n")
    print("| method | seconds | exact / it | r |\n|---|---|---|---|")
    print(f"| exact | {total:.2f} | 1 | 1 |")
    for name, fix in (("gradient", False), ("qk_fix", True)):
        quick, seconds = timed(lambda fix=fix: edge_sweep(model, *data, fix=fix))
        both = truth.merge(quick, on=columns, validate="1:1")
        r = correlation(both.effect_x.to_numpy(), both.effect_y.to_numpy())
        print(f"| {name} | {seconds:.3f} | {total / seconds:.0f} | {r:.3f} |")


def score_circuits(pairs: int) -> None:
    """How well each ranking finds the two heads of the induction circuit."""
    known, data = circuits.induction(), circuits.induction_prompts(pairs, seed=0)
    grid = PatchGrid(("head_out", "mlp_out"))
    found = {"exact": node_scores(patch_sweep(known.model, *data, grid=grid))}
    for name, options in METHODS.items():
        if name != "qk_fix":  # heads and MLPs are as with the gradient
            sweep = attribution_sweep(known.model, *data, grid=grid, **options)
            found[name] = node_scores(sweep)
    order = np.random.default_rng(0).permutation(len(found["exact"]))
    found["random order"] = dict(zip(found["exact"], map(float, order), strict=True))
    print(f"\n### Induction circuit, {pairs} pairs: 2 of {len(order)} nodes\n{machine()}\n")
    print("| ranking | AUROC | CPR | CMD (0 is best) |\n|---|---|---|---|")
    for name, scores in found.items():
        sizes = {site: abs(value) for site, value in scores.items()}
        curve = faithfulness(known.model, *data, sizes)
        area = circuits.auroc(sizes, known.circuit)
        print(f"| {name} | {area:.3f} | {curve.cpr:.3f} | {curve.cmd:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    shape = (options.pairs, options.tokens, options.width, options.layers)
    where = f"{shape[3]} layers of width {shape[2]}, {shape[0]} pairs of {shape[1]} tokens"
    compare(f"Random GPT-2, {where}", *random_gpt2(1, *shape))
    compare(f"The same, queries and keys times 4, {where}", *random_gpt2(4, *shape))
    compare("Induction circuit, 8 pairs", circuits.induction().model,
            *circuits.induction_prompts(8, seed=0))  # fmt: skip
    small = (options.pairs, options.tokens, 128, 3)
    shown = f"3 layers of width 128, {options.pairs} pairs of {options.tokens} tokens"
    compare_edges(f"Random GPT-2, {shown}", *random_gpt2(1, *small))
    compare_edges(f"The same, queries and keys times 4, {shown}", *random_gpt2(4, *small))
    compare_edges("Induction circuit, 8 pairs", circuits.induction().model,
                  *circuits.induction_prompts(8, seed=0))  # fmt: skip
    score_circuits(24)


if __name__ == "__main__":
    main()
