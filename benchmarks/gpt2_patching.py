"""GPT-2 patched at every layer, position and component: rows recomputed against whole passes.

python benchmarks/gpt2_patching.py --pairs 2 --tokens 16 --rounds 2
"""

import argparse
import copy

import numpy as np
import torch
from paired import Contender, alternate, operations, report
from patchwork import interventions
from patchwork.interventions import LogitDifference
from patchwork.training.precision import resolve
from transformers import GPT2Config, GPT2LMHeadModel

COMPONENTS = ("resid_pre", "attn_out", "mlp_out")
PYVENE = {"resid_pre": "block_input", "attn_out": "attention_output", "mlp_out": "mlp_output"}


def make(n: int, t: int, first: int):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    clean = torch.randint(0, 50257, (n, t))
    corrupted = clean.clone()
    corrupted[:, first] = (clean[:, first] + 1) % 50257
    return model, clean, corrupted, LogitDifference(torch.arange(n), torch.arange(n) + 100)


def modules(model, component: str):
    for block in model.transformer.h:
        yield {"resid_pre": block, "attn_out": block.attn.c_proj, "mlp_out": block.mlp.c_proj}[
            component
        ]


@torch.no_grad()
def naive(model, clean, corrupted, metric) -> np.ndarray:
    rows = torch.arange(len(clean), device=clean.device)
    before, effects = metric(model(corrupted), rows), []
    for component in COMPONENTS:
        enters = component == "resid_pre"
        for module in modules(model, component):
            kept = []
            handle = module.register_forward_hook(
                lambda m, args, out, kept=kept, enters=enters: kept.append(
                    args[0] if enters else out
                )
            )
            model(clean)
            handle.remove()
            for position in range(clean.shape[1]):

                def change(x, position=position, kept=kept):
                    x = x.clone()
                    x[:, position] = kept[0][:, position]
                    return x

                if enters:
                    handle = module.register_forward_pre_hook(
                        lambda m, args, change=change: (change(args[0]), *args[1:])
                    )
                else:
                    handle = module.register_forward_hook(
                        lambda m, args, out, change=change: change(out)
                    )
                effects.append(metric(model(corrupted), rows) - before)
                handle.remove()
    return _grid(effects, clean)


def _grid(effects, clean) -> np.ndarray:
    return (
        torch.stack(effects).cpu().numpy().reshape(len(COMPONENTS), -1, clean.shape[1], len(clean))
    )


@torch.no_grad()
def with_nnsight(model, clean, corrupted, metric) -> np.ndarray:
    from nnsight import NNsight

    traced, rows = NNsight(model), torch.arange(len(clean))
    before, effects = metric(model(corrupted), rows), []

    def place(component, layer):
        block = traced.transformer.h[layer]
        return {"attn_out": block.attn.c_proj, "mlp_out": block.mlp.c_proj}.get(component, block)

    for component in COMPONENTS:
        for layer in range(model.config.n_layer):
            with traced.trace(clean):
                module = place(component, layer)
                stored = (module.input if component == "resid_pre" else module.output).save()
            for position in range(clean.shape[1]):
                with traced.trace(corrupted):
                    module = place(component, layer)
                    if component == "resid_pre":
                        module.input[:, position] = stored[:, position]
                    else:
                        module.output[:, position] = stored[:, position]
                    logits = traced.output.logits.save()
                effects.append(metric(logits, rows) - before)
    return _grid(effects, clean)


@torch.no_grad()
def with_lens(bridge, model, clean, corrupted, metric) -> np.ndarray:
    """The loop of TransformerLens' generic patching: cached clean run, one hook a cell."""
    rows = torch.arange(len(clean))
    before, effects = metric(bridge(corrupted, return_type="logits"), rows), []
    _, cache = bridge.run_with_cache(clean)
    names = {"resid_pre": "hook_resid_pre", "attn_out": "hook_attn_out", "mlp_out": "hook_mlp_out"}
    for component in COMPONENTS:
        for layer in range(model.config.n_layer):
            name = f"blocks.{layer}.{names[component]}"
            for position in range(clean.shape[1]):

                def hook(x, hook, name=name, position=position):
                    x = x.clone()
                    x[:, position] = cache[name][:, position]
                    return x

                logits = bridge.run_with_hooks(corrupted, fwd_hooks=[(name, hook)])
                effects.append(metric(logits, rows) - before)
    return _grid(effects, clean)


def make_lens(model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    return build_bridge_from_module(copy.deepcopy(model), "GPT2LMHeadModel", hf_config=model.config)


@torch.no_grad()
def with_pyvene(model, clean, corrupted, metric) -> np.ndarray:
    """Default sources: every cell runs its source input as well."""
    import pyvene

    rows = torch.arange(len(clean))
    before, effects = metric(model(corrupted), rows), []
    for component in COMPONENTS:
        for layer in range(model.config.n_layer):
            wrapped = pyvene.IntervenableModel(
                {"layer": layer, "component": PYVENE[component], "unit": "pos",
                 "intervention_type": pyvene.VanillaIntervention},
                model=model,
            )  # fmt: skip
            for position in range(clean.shape[1]):
                _, output = wrapped(
                    {"input_ids": corrupted}, [{"input_ids": clean}], {"sources->base": position}
                )
                effects.append(metric(output, rows) - before)
    return _grid(effects, clean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["nnsight", "transformer_lens", "pyvene"])
    parser.add_argument("--only-attribution", action="store_true")
    options = parser.parse_args()
    shape = f"{options.pairs} pairs of {options.tokens} tokens"
    if options.only_attribution:
        model, *data = make(options.pairs, options.tokens, 1)
        exact = operations(lambda: interventions.patch_sweep(model, *data).values)
        _attribution(
            f"{shape}, first difference at token 1", model, tuple(data), options.rounds, exact
        )
        return

    def stack(effects) -> np.ndarray:
        return np.stack([effects.values[component] for component in COMPONENTS])

    for share in (0.0, 0.4):
        first = int(np.ceil(share * options.tokens))
        model, clean, corrupted, metric = make(options.pairs, options.tokens, first)
        data = (clean, corrupted, metric)
        ours = Contender(
            "this sweep", lambda m=model, d=data: stack(interventions.patch_sweep(m, *d))
        )
        others = [Contender("naive hooks", lambda m=model, d=data: naive(m, *d))]
        if share == 0:
            if "nnsight" in options.peers:
                others.append(Contender("nnsight", lambda m=model, d=data: with_nnsight(m, *d)))
            if "transformer_lens" in options.peers:
                lens = make_lens(model)
                others.append(
                    Contender(
                        "TransformerLens generic patching",
                        lambda m=model, d=data, b=lens: with_lens(b, m, *d),
                    )
                )
            if "pyvene" in options.peers:
                others.append(Contender("pyvene", lambda m=model, d=data: with_pyvene(m, *d)))
        alternate([ours, *others], options.rounds)
        flops = {"this sweep": operations(ours.run), "naive hooks": operations(others[0].run)}
        where = "token 0" if first == 0 else f"token {first} of {options.tokens}"
        report(f"GPT-2 small patched, {shape}, first difference at {where}", ours, others, flops)
        if share == 0:
            _attribution(shape, model, data, options.rounds, flops["this sweep"])


def _attribution(shape: str, model, data, rounds: int, exact_flops: int) -> None:
    def estimate(precision: str) -> np.ndarray:
        sweep = interventions.attribution_sweep(model, *data, mixed_precision=precision)
        return np.stack([sweep.values[name] for name in COMPONENTS])

    def exact() -> np.ndarray:
        values = interventions.patch_sweep(model, *data).values
        return np.stack([values[name] for name in COMPONENTS])

    kinds = dict.fromkeys(resolve(word, torch.device("cpu")) for word in ("no", "auto"))
    quick = {
        kind: Contender(f"attribution, {kind}", lambda kind=kind: estimate(kind)) for kind in kinds
    }
    full = Contender("exact sweep", exact)
    alternate([*quick.values(), full], rounds)
    assert full.result is not None
    for kind, one in quick.items():
        assert one.result is not None
        each = ", ".join(
            f"{name} {interventions.correlation(one.result[i], full.result[i]):.4f}"
            for i, name in enumerate(COMPONENTS)
        )
        report(
            f"Attribution patching, {shape}, mixed precision {kind} (Pearson r {each}; its "
            "deviation is its error)", one, [full], {"exact sweep": exact_flops},
        )  # fmt: skip


if __name__ == "__main__":
    main()
