"""Every head of a ViT ablated: one pass over the layers against one forward pass per head.

python benchmarks/head_ablation.py --images 4 --rounds 3
"""

import argparse
import copy

import numpy as np
import torch
from paired import Contender, alternate, operations, report
from patchwork import interventions
from transformers import ViTConfig, ViTForImageClassification

WIDTHS = {"small": (384, 6), "base": (768, 12)}


def make(size: str, pixels: int) -> ViTForImageClassification:
    width, heads = WIDTHS[size]
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width, num_labels=10,
        image_size=pixels,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


def metric(output, rows):
    return output.logits[:, 0] - output.logits[:, 1]


@torch.no_grad()
def naive(model, images, baseline, means=None) -> np.ndarray:
    clean, effects = metric(model(images), None), []
    width = model.config.hidden_size // model.config.num_attention_heads
    for index, layer in enumerate(model.vit.layers):
        for head in range(model.config.num_attention_heads):
            part = slice(head * width, (head + 1) * width)

            def hook(module, args, part=part, index=index):
                z = args[0].clone()
                z[:, :, part] = 0 if baseline == "zero" else means[index][:, :, part]
                return (z,)

            handle = layer.attention.o_proj.register_forward_pre_hook(hook)
            effects.append(metric(model(images), None) - clean)
            handle.remove()
    return _grid(effects, model)


def _grid(effects, model) -> np.ndarray:
    stacked = torch.stack(effects).numpy()
    return stacked.reshape(model.config.num_hidden_layers, model.config.num_attention_heads, -1)


@torch.no_grad()
def layer_means(model, images) -> list[torch.Tensor]:
    sites = [f"{layer}.head_out" for layer in range(model.config.num_hidden_layers)]
    return list(interventions.mean_activations(model, sites, images).values())


@torch.no_grad()
def with_nnsight(traced, model, images) -> np.ndarray:
    clean, effects = metric(model(images), None), []
    width = model.config.hidden_size // model.config.num_attention_heads
    for index in range(model.config.num_hidden_layers):
        for head in range(model.config.num_attention_heads):
            with traced.trace(images):
                z = traced.vit.layers[index].attention.o_proj.input
                z[:, :, head * width : (head + 1) * width] = 0
                logits = traced.output.logits.save()
            effects.append(logits[:, 0] - logits[:, 1] - clean)
    return _grid(effects, model)


@torch.no_grad()
def with_hook_z(run, model, images) -> np.ndarray:
    """TransformerLens and ViT-Prisma: `run(images, hooks)` gives logits."""
    clean = run(images, [])
    clean, effects = clean[:, 0] - clean[:, 1], []
    for index in range(model.config.num_hidden_layers):
        for head in range(model.config.num_attention_heads):

            def hook(z, hook, head=head):
                z[:, :, head] = 0
                return z

            logits = run(images, [(f"blocks.{index}.attn.hook_z", hook)])
            effects.append(logits[:, 0] - logits[:, 1] - clean)
    return _grid(effects, model)


def lens_run(model):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    bridge = build_bridge_from_module(
        copy.deepcopy(model), "ViTForImageClassification", hf_config=model.config
    )

    def run(images, hooks):
        output = bridge.run_with_hooks(images, fwd_hooks=hooks)
        return getattr(output, "logits", output)

    return run


def prisma_run(model):
    """A ViT-Prisma model of equal shape; its own weights, so its effects are not compared."""
    from vit_prisma.configs.HookedViTConfig import HookedViTConfig
    from vit_prisma.models.base_vit import HookedViT

    width, heads = model.config.hidden_size, model.config.num_attention_heads
    config = HookedViTConfig(
        n_layers=model.config.num_hidden_layers, d_model=width, d_head=width // heads,
        n_heads=heads, d_mlp=4 * width, patch_size=16, n_classes=10,
        image_size=model.config.image_size,
        activation_name="gelu", normalization_type="LN", eps=1e-12, device="cpu",
        return_type="class_logits",
    )  # fmt: skip
    hooked = HookedViT(config).eval()
    return lambda images, hooks: hooked.run_with_hooks(images, fwd_hooks=hooks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=WIDTHS, default="small")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["nnsight", "transformer_lens", "vit_prisma"])
    options = parser.parse_args()
    model = make(options.size, options.pixels)
    images = torch.randn(options.images, 3, options.pixels, options.pixels)
    means = layer_means(model, images)

    def ours(*baselines: str) -> np.ndarray:
        sweep = interventions.head_ablation_sweep(model, images, metric, baselines=baselines)
        assert sweep.metadata["path"] == "fast", sweep.metadata
        return sweep.values if len(baselines) > 1 else sweep.values[0]

    zero = Contender("this sweep", lambda: ours("zero"))
    others = [Contender("naive hooks", lambda: naive(model, images, "zero"))]
    if "nnsight" in options.peers:
        from nnsight import NNsight

        traced = NNsight(copy.deepcopy(model))
        others.append(Contender("nnsight", lambda: with_nnsight(traced, model, images)))
    if "transformer_lens" in options.peers:
        lens = lens_run(model)
        others.append(Contender("TransformerLens hook_z", lambda: with_hook_z(lens, model, images)))
    if "vit_prisma" in options.peers:
        try:
            prisma = prisma_run(model)
        except ImportError as missing:
            print(f"ViT-Prisma left out: {missing}")
        else:
            others.append(
                Contender(
                    "ViT-Prisma hook_z (own weights)", lambda: with_hook_z(prisma, model, images)
                )
            )
    alternate([zero, *others], options.rounds)
    flops = {"this sweep": operations(zero.run), "naive hooks": operations(others[0].run)}
    shape = f"ViT {options.size}, {options.pixels} px, {options.images} images"
    title = f"Zero ablation of every head, {shape}"
    for other in others:
        if "own weights" in other.name:
            other.result = None
    report(title, zero, others, flops)

    both = Contender("this sweep", lambda: ours("zero", "mean"))
    two = Contender(
        "two naive sweeps",
        lambda: np.stack([naive(model, images, "zero"), naive(model, images, "mean", means)]),
    )
    alternate([both, two], options.rounds)
    flops = {"this sweep": operations(both.run), "two naive sweeps": 2 * flops["naive hooks"]}
    report(f"Zero and mean ablation together, {shape}", both, [two], flops)


if __name__ == "__main__":
    main()
