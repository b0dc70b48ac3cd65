"""Attribution patching: a first-order estimate of every patch from one or a few backward passes."""

from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, batches, call, first_rows, n_rows, parameter_of
from patchwork.interventions.fast_path.following import left_padding
from patchwork.interventions.pattern_edits import AttentionInputs, attention_inputs
from patchwork.interventions.readout import LogitDifference, Metric, one_each, score
from patchwork.interventions.sweeps import within_attention
from patchwork.interventions.sweeps.effects import PatchEffects
from patchwork.interventions.sweeps.grid import DIRECTIONS, PatchGrid, check_pair, place
from patchwork.interventions.sweeps.patching import patch_sweep
from patchwork.interventions.sweeps.plan import describe
from patchwork.interventions.sweeps.relevance import relevance_rules
from patchwork.models import sites
from patchwork.models.sites import Anatomy
from patchwork.training.precision import autocast, resolve

METHODS = ("gradient", "qk_fix", "relp")


def attribution_sweep(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    grid: PatchGrid | None = None,
    check: int = 0,
    mixed_precision: str = "no",
    steps: int = 1,
    method: str = "gradient",
) -> PatchEffects:
    """Estimate `patch_sweep` as gradient times difference of activations, per pair.

    Args:
        model: a supported model in eval mode.
        clean: as for `patch_sweep`.
        corrupted: as for `patch_sweep`.
        metric: as for `patch_sweep`; differentiable.
        grid: components, positions and direction.
        check: pairs, from the first, on which the exact sweep is run as well; their Pearson
            correlation over all cells and pairs stands in `metadata["pearson_r"]` by component.
        mixed_precision: of the passes: ``no``, ``bf16``, or ``auto``, which is bf16 where the
            device multiplies in it, for a model in fp32. The exact sweep keeps the model's own
            type; `metadata["precision"]` is what was taken.
        steps: 1 takes the gradient of the base run. More take the mean gradient along the
            straight line from the base run's embeddings to the source run's, at as many points
            (integrated gradients), which sees what is saturated at its ends; it costs a forward
            and a backward pass for each.
        method: `gradient`; `qk_fix`, which takes queries and keys through the softmax itself where
            the gradient's straight line does not see that it is saturated (AtP*; other components
            are as with `gradient`); or `relp`, relevance patching, which takes propagation
            coefficients for gradients, for all components but queries and keys. All three cost
            two forward passes and a backward pass.

    Returns:
        Estimated effects; `metadata["path"]` is `attribution`, and without a check
        `metadata["reason"]` says that their correlation with the exact sweep is not known.

    Raises:
        ValueError: as for `patch_sweep`, if check is outside 0 to n, steps < 1, for another
            precision or method, steps of another method than `gradient`, or queries and keys or an
            MLP that `relp` has no rule for.

    Source:
        Syed, Rager, Conmy 2023, Attribution Patching Outperforms Automated Circuit Discovery;
        Hanna, Pezzelle, Belinkov 2024, Have Faith in Faithfulness (integrated gradients);
        `within_attention` and `relevance` name those of the other methods.
    """
    sites.require_eval(model)
    grid, anatomy = grid or PatchGrid(), sites.find(model)
    check_pair(clean, corrupted, grid)
    n = n_rows(clean)
    if n == 0:
        raise ValueError("clean holds no example; allowed is at least one")
    if steps < 1:
        raise ValueError(f"steps is {steps}; allowed is at least 1")
    _check_method(method, steps, grid)
    if not 0 <= check <= n:
        raise ValueError(f"check is {check}; allowed is 0 to {n}, the number of pairs")
    base, source = (corrupted, clean) if grid.direction == DIRECTIONS[0] else (clean, corrupted)
    like = parameter_of(model)
    precision = resolve(mixed_precision, like.device)
    if like.dtype != torch.float32:
        precision = "no"  # nothing else is rounded for a product
    pieces = []
    # One context for all pieces: weights that ask for gradients are then rounded once.
    with autocast(like.device, precision):
        for (rows, mine), (_, other) in zip(
            batches(base, 8, model), batches(source, 8, model), strict=True
        ):
            pair = (mine, other, rows)
            pieces.append(_piece(model, anatomy, metric, grid, pair, steps, method))
    values = {
        name: np.concatenate([piece[0][name] for piece in pieces], axis=-1)
        for name in grid.components
    }
    before, after = (np.concatenate([piece[i] for piece in pieces]) for i in (1, 2))
    positions: tuple[Any, ...] = tuple(grid.named)
    if not grid.named:
        positions = grid.tokens(values[grid.components[0]].shape[-2])
        values = {name: value[..., list(positions), :] for name, value in values.items()}
    metadata = describe(
        "attribution",
        "correlation with the exact sweep not measured",
        8,
        precision=precision,
        steps=steps,
        method=method,
    )
    left = left_padding(anatomy, base)
    if check:
        few_clean, few_corrupted = (first_rows(inputs, check) for inputs in (clean, corrupted))
        exact = patch_sweep(model, few_clean, few_corrupted, metric, grid=grid)
        metadata["pearson_r"] = {
            name: correlation(values[name][..., :check], exact.values[name]) for name in values
        }
        metadata["reason"] = f"correlation with the exact sweep measured on {check} pairs"
    if left is not None:
        metadata["reason"] += f"; {left}"
    return PatchEffects(values, positions, before, after, grid.direction, metadata)


def _at(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows (m, k, d) of activations (m, t, d) at the tokens (m, k)."""
    return x[torch.arange(len(x), device=x.device)[:, None], tokens]


def _check_method(method: str, steps: int, grid: PatchGrid) -> None:
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; allowed is {', '.join(METHODS)}")
    if steps > 1 and method != "gradient":
        raise ValueError(f"steps is {steps} with method {method}; allowed is method gradient")
    inside = [name for name in grid.components if name in within_attention.NAMES]
    if inside and grid.named:
        raise ValueError(
            f"components holds {inside[0]} with positions by name; allowed is patch_sweep, or "
            "positions that all examples share"
        )
    if steps > 1 and inside:
        raise ValueError(
            f"components holds {inside[0]} with steps {steps}, whose mean slopes end at the heads' "
            "outputs; allowed is 1, as with method qk_fix"
        )
    if steps > 1 and grid.named:
        raise ValueError(
            f"steps is {steps} with positions by name, whose runs have no straight line between "
            "them; allowed is 1"
        )
    wrong = [name for name in inside if name != "v"]
    if wrong and method == "relp":
        raise ValueError(
            f"components holds {wrong[0]} with method relp, which takes attention as it is; "
            "allowed is method gradient or qk_fix"
        )


def correlation(estimate: np.ndarray, exact: np.ndarray) -> float:
    """Pearson correlation over all cells and examples; nan where either is constant."""
    a, b = (x.reshape(-1).astype(np.float64) for x in (estimate, exact))
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else float("nan")


class Tape:
    """Live activations of one forward pass, by component and layer."""

    def __init__(self, anatomy: Anatomy, start: Tensor | None) -> None:
        self.anatomy, self.start = anatomy, start
        self.kept: dict[tuple[str, int], Tensor] = {}
        self.attention: dict[int, AttentionInputs] = {}

    def attach(self, stack: ExitStack) -> None:
        """Register the hooks; `stack` removes them."""
        for layer, parts in enumerate(self.anatomy.blocks):
            handles = [
                parts.block.register_forward_pre_hook(self._enter(layer)),
                parts.attn.register_forward_pre_hook(self._attend(layer), with_kwargs=True),
                parts.proj.register_forward_pre_hook(self._before("head_out", layer)),
                parts.proj.register_forward_hook(self._after("attn_out", layer)),
                parts.mlp_last.register_forward_hook(self._after("mlp_out", layer)),
            ]
            for handle in handles:
                stack.callback(handle.remove)

    def _enter(self, layer: int) -> Any:
        def hook(module: nn.Module, args: tuple) -> tuple | None:
            stream = args[0] if layer or self.start is None else self.start
            if layer == 0 and torch.is_grad_enabled():
                # Cut here: nothing before the first block needs a gradient.
                stream = stream.detach().requires_grad_()
            self.kept["resid_pre", layer] = stream
            return (stream, *args[1:])

        return hook

    def _attend(self, layer: int) -> Any:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            self.attention[layer] = attention_inputs(args, kwargs)

        return hook

    def _before(self, name: str, layer: int) -> Any:
        def hook(module: nn.Module, args: tuple) -> None:
            self.kept[name, layer] = args[0]

        return hook

    def _after(self, name: str, layer: int) -> Any:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            self.kept[name, layer] = output

        return hook


def taped(
    model: nn.Module,
    anatomy: Anatomy,
    metric: Metric,
    batch: Batch,
    rows: Tensor,
    start: Tensor | None = None,
) -> tuple[Tensor, Tape]:
    """Metric and live activations of one run, from another first stream (m, t, d) if given."""
    tape = Tape(anatomy, start)
    with ExitStack() as stack:
        tape.attach(stack)
        if isinstance(metric, LogitDifference) and _is_language_model(model):
            states = cast(Any, call(anatomy.trunk, _as_ids(batch), rows))
            value = metric.from_hidden(model, states.last_hidden_state[:, -1], rows)
            value = one_each(value, rows)
        else:
            value = score(metric, call(model, batch, rows), rows)
    return value, tape


def _is_language_model(model: nn.Module) -> bool:
    """Whether the model is GPT-2 as published, whose logits are final states times weights."""
    # By name, since importing the class takes longer than many jobs.
    own = f"{type(model).__module__}.{type(model).__name__}"
    return (
        own == "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel"
        and type(model.get_submodule("lm_head")) is nn.Linear
        and not any(
            module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
            for module in map(model.get_submodule, ("", "transformer", "lm_head"))
        )
    )


def _as_ids(batch: Batch) -> Batch:
    return batch if isinstance(batch, dict) else {"input_ids": batch}


def _piece(
    model: nn.Module,
    anatomy: Anatomy,
    metric: Metric,
    grid: PatchGrid,
    data: tuple[Batch, Batch, Tensor],
    steps: int,
    method: str,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    base, source, rows = data
    with torch.no_grad():
        after, others = taped(model, anatomy, metric, source, rows)
    inside = tuple(name for name in grid.components if name in within_attention.NAMES)
    names = [name for name in grid.components if name not in inside]
    if inside and "head_out" not in names:
        names.append("head_out")  # whence queries, keys and values are reached
    places = [place(grid, name, rows) for name in grid.named]  # in base and source run
    tokens = [torch.stack(some, 1) for some in zip(*places, strict=True)]
    keys = [(name, layer) for name in names for layer in range(anatomy.n_layers)]

    def slopes_at(start: Tensor | None) -> tuple[Tensor, Tape, tuple[Tensor, ...]]:
        with ExitStack() as stack, torch.enable_grad():
            if method == "relp":
                stack.enter_context(relevance_rules(model, anatomy))
            value, tape = taped(model, anatomy, metric, base, rows, start)
            if not value.requires_grad:
                raise ValueError(
                    "metric has no gradient; allowed is one that can be differentiated"
                )
            return value, tape, torch.autograd.grad(value.sum(), [tape.kept[key] for key in keys])

    if steps == 1:
        before, mine, slopes = slopes_at(None)
    else:
        with torch.no_grad():
            before, mine = taped(model, anatomy, metric, base, rows)
        one, other = mine.kept["resid_pre", 0], others.kept["resid_pre", 0]
        points = [one + (i + 0.5) / steps * (other - one) for i in range(steps)]
        taken = [slopes_at(point)[2] for point in points]
        slopes = tuple(sum(some) / steps for some in zip(*taken, strict=True))
    effects: dict[str, list[Tensor]] = {name: [] for name in (*names, *inside)}
    # Summed in the model's own type, but not in one of 16 bits.
    exact = torch.promote_types(parameter_of(model).dtype, torch.float32)
    for key, slope in zip(keys, slopes, strict=True):
        name = key[0]
        # Some models hand all tokens of a batch on as rows of one matrix.
        slope, here, there = (
            x.detach().unflatten(0, (len(rows), -1)) if x.ndim == 2 else x.detach()
            for x in (slope, mine.kept[key], others.kept[key])
        )
        own = slope
        if grid.named:
            slope, here = (_at(x, tokens[0]) for x in (slope, here))
            there = _at(there, tokens[1])
        product = slope.to(exact) * (there.to(exact) - here.to(exact))
        if name == "head_out":
            product = product.unflatten(-1, (anatomy.n_heads, -1)).sum(-1).permute(2, 1, 0)
        else:
            product = product.sum(-1).transpose(0, 1)
        effects[name].append(product)
        if name == "head_out" and inside:
            parts, given = anatomy.blocks[key[1]], mine.attention[key[1]]
            with torch.no_grad():
                new = parts.qkv(others.attention[key[1]].normed)
                found = within_attention.attributed(
                    parts, anatomy.causal, given, new, own, inside, method == "qk_fix"
                )
            for part, values in found.items():
                effects[part].append(values.to(exact).permute(1, 2, 0))
    stacked = {name: torch.stack(effects[name]).cpu().numpy() for name in grid.components}
    before, after = (value.detach().to(exact) for value in (before, after))
    return stacked, before.cpu().numpy(), after.cpu().numpy()
