"""What the read-out makes of streams and of what each part writes: logit lens and attribution."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from patchwork.interventions.batches import Batch, batches
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.hooks import read
from patchwork.interventions.readout import (
    LogitDifference,
    Metric,
    ModelReadout,
    one_each,
    score,
    unembedding_of,
)
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site


def lens(model: nn.Module, batch: Batch, rows: Tensor | None = None) -> Iterator[Any]:
    """The model's output for the stream before each block, and behind the last one.

    Args:
        model: a supported model in eval mode, pre-norm.
        batch: what the model takes.
        rows: numbers of its examples, for the edits of enclosing blocks.

    Yields:
        layers + 1 outputs, those of a text model with `logits` (n, t, vocabulary); the last is
        the model's own.

    Raises:
        ValueError: for norms behind the layers, or, where the read-out is no norm and unembedding,
            hooks on the model's blocks.

    Source:
        nostalgebraist 2020, interpreting GPT: the logit lens.
    """
    anatomy = sites.find(model)
    if anatomy.blocks[0].order == "post":
        raise ValueError(f"lens: {anatomy.family} has norms behind its layers; allowed is pre-norm")
    names = [Site("resid_pre", layer) for layer in range(anatomy.n_layers)]
    streams = read(model, [*names, Site("resid_post", anatomy.n_layers - 1)], batch, rows)
    readout = final_readout(model, anatomy, batch)
    for stream in streams.values():
        with torch.no_grad():
            output = readout(stream)
        yield output


def final_readout(model: nn.Module, anatomy: Anatomy, batch: Batch) -> Callable[[Tensor], Any]:
    """What the model makes of a final stream (m, t, d), also within a block of edits.

    Raises:
        ValueError: if that needs the model's blocks bypassed and they have hooks.
    """
    unembedding, norm = unembedding_of(model), anatomy.final_norm
    if norm is not None and unembedding is not None:
        return lambda stream: CausalLMOutput(logits=unembedding(norm(stream)))
    if any(x.block._forward_hooks or x.block._forward_pre_hooks for x in anatomy.blocks):
        raise ValueError("read-out: hooks on the blocks, of a block or your own; allowed is none")
    with torch.no_grad():
        return ModelReadout(model, anatomy, batch)


def logit_lens(model: nn.Module, inputs: Any, metric: Metric, chunk: int = 8) -> np.ndarray:
    """Metric of what the model would say from the stream before each block.

    Args:
        model: as for `lens`.
        inputs: n examples, as `head_ablation_sweep` takes them.
        metric: (output, row numbers) -> one number for each example.
        chunk: examples at once.

    Returns:
        shape (layers + 1, n); the last row is the metric of the model itself.
    """
    sites.require_eval(model)
    pieces = [
        np.stack([score(metric, output, rows).cpu().numpy() for output in lens(model, batch, rows)])
        for rows, batch in batches(inputs, chunk, model)
    ]
    if not pieces:
        raise ValueError("inputs holds no example; allowed is at least one")
    return np.concatenate(pieces, axis=1)


def direct_effects(
    model: nn.Module,
    inputs: Any,
    metric: LogitDifference,
    *,
    neurons: Sequence[int] = (),
    chunk: int = 8,
) -> pd.DataFrame:
    """What each part of a text model writes straight into a logit difference.

    The final norm divides by a scale that depends on the whole stream. `effect` takes that scale
    as it is: effects of all parts, with what norm and unembedding add themselves (`bias`), sum to
    the logit difference. `removed` takes the part off the final stream and lets the norm scale
    anew; the difference of the two is what the linearisation leaves out.

    Args:
        model: a supported text model in eval mode, pre-norm, with a LayerNorm or RMSNorm before
            its unembedding.
        inputs: n prompts of one length, unpadded at their end.
        metric: the tokens of which the logits are compared, at the last position.
        neurons: layers whose MLP units are listed too; they are parts of `mlp`.
        chunk: examples at once.

    Returns:
        Columns component (`embedding`, `head`, `attn_bias`, `mlp`, `neuron`, `bias`), layer (-1
        where none), index (head or unit, -1 where none), example, effect and removed (nan for
        `bias`), in the metric's unit.

    Raises:
        ValueError: for another read-out or order of norms.

    Source:
        Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; Wang et al. 2022,
        Interpretability in the Wild, section 3.1.
    """
    sites.require_eval(model)
    anatomy = sites.find(model)
    if anatomy.final_norm is None or unembedding_of(model) is None:
        raise ValueError(
            f"direct_effects: {anatomy.family} has no norm and unembedding at its end; "
            "allowed is a language model"
        )
    if anatomy.blocks[0].order == "post":
        raise ValueError(
            f"direct_effects: {anatomy.family} has norms behind its layers; allowed is pre-norm"
        )
    frames: list[pd.DataFrame] = []
    with torch.no_grad():
        for rows, batch in batches(inputs, chunk, model):
            frames += _direct(model, anatomy, metric, (batch, rows), neurons)
    return pd.concat(frames, ignore_index=True)


def _direct(
    model: nn.Module,
    anatomy: Anatomy,
    metric: LogitDifference,
    piece: tuple[Batch, Tensor],
    neurons: Sequence[int],
) -> Iterator[pd.DataFrame]:
    batch, rows = piece
    norm, last = cast(nn.Module, anatomy.final_norm), (-1,)
    final_site = Site("resid_post", anatomy.n_layers - 1, None, last)
    written = list(_written(model, anatomy, batch, rows, neurons))
    final = read(model, final_site, batch, rows)[final_site][:, 0]

    def value(stream: Tensor, own: Tensor) -> Tensor:
        return one_each(metric.from_hidden(model, norm(stream), own), own)

    frozen = frozen_norm(norm, final, norm(final))
    whole = value(final, rows)
    # What is constant: the norm's own shift and the biases of the unembedding.
    shift = norm(final) - frozen(final)
    constant = metric.from_hidden(model, shift, rows)
    biases = metric.from_hidden(model, torch.zeros_like(shift), rows)
    yield _frame("bias", -1, [-1], rows, constant[None], torch.full_like(constant, torch.nan)[None])
    for component, layer, parts in written:
        effects, removed = [], []
        for some in parts.split(64):  # (units, n, d)
            k = len(some)
            own = rows.repeat(k)
            hidden = frozen(some).flatten(0, 1)
            effects.append(metric.from_hidden(model, hidden, own).view(k, -1) - biases)
            without = value((final - some).flatten(0, 1), own).view(k, -1)
            removed.append(whole - without)
        index = range(len(parts)) if component in ("head", "neuron") else [-1]
        yield _frame(component, layer, index, rows, torch.cat(effects), torch.cat(removed))


def _written(
    model: nn.Module, anatomy: Anatomy, batch: Batch, rows: Tensor, neurons: Sequence[int]
) -> Iterator[tuple[str, int, Tensor]]:
    """What each part adds to the last token's stream, (units, n, d)."""
    last = (-1,)

    def at(kind: str, layer: int) -> Site:
        return Site(kind, layer, None, last)

    layers = range(anatomy.n_layers)
    chosen = [at("resid_pre", 0)]
    chosen += [at(kind, layer) for layer in layers for kind in ("head_out", "attn_out", "mlp_out")]
    chosen += [at("mlp_hidden", layer) for layer in neurons]
    kept = {site: x[:, 0] for site, x in read(model, chosen, batch, rows).items()}
    yield "embedding", -1, kept[at("resid_pre", 0)][None]
    for layer in layers:
        parts = anatomy.blocks[layer]
        width = anatomy.n_heads * anatomy.d_head
        weight = kernels.output_weight(parts.proj, width).unflatten(0, (anatomy.n_heads, -1))
        z = kept[at("head_out", layer)].unflatten(-1, (anatomy.n_heads, -1))
        heads = torch.einsum("nhe,hed->hnd", z, weight)
        yield "head", layer, parts.attn_scale(heads.clone())
        bias = kept[at("attn_out", layer)] - heads.sum(0)
        yield "attn_bias", layer, parts.attn_scale(bias)[None]
        yield "mlp", layer, parts.mlp_scale(kept[at("mlp_out", layer)].clone())[None]
        if layer in neurons:
            hidden = kept[at("mlp_hidden", layer)]
            out = kernels.output_weight(parts.mlp_last, anatomy.d_hidden)
            yield "neuron", layer, parts.mlp_scale(hidden.T[:, :, None] * out[:, None])


def frozen_norm(norm: nn.Module, stream: Tensor, want: Tensor) -> Callable[[Tensor], Tensor]:
    """A norm as the linear map that it is at a stream (..., d), its shift left out.

    Args:
        norm: a LayerNorm or RMSNorm.
        stream: what it is given; its scale is taken as it is.
        want: what it gives.

    Raises:
        ValueError: if it computes something else.
    """
    weight = cast(Any, norm).weight
    if isinstance(norm, nn.LayerNorm):
        scale = torch.rsqrt(stream.var(-1, unbiased=False, keepdim=True) + norm.eps)
        shift: Any = 0 if norm.bias is None else norm.bias

        def linear(x: Tensor) -> Tensor:
            return (x - x.mean(-1, keepdim=True)) * scale * weight
    else:
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None)) or 0.0
        scale, shift = torch.rsqrt(stream.pow(2).mean(-1, keepdim=True) + eps), 0

        def linear(x: Tensor) -> Tensor:
            return x * scale * weight

    if not torch.allclose(linear(stream) + shift, want, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"norm is a {type(norm).__name__}; allowed is one that computes as LayerNorm or RMSNorm"
        )
    return linear


def _frame(
    component: str,
    layer: int,
    index: Sequence[int],
    rows: Tensor,
    effect: Tensor,
    removed: Tensor,
) -> pd.DataFrame:
    """Long form of (units, n)."""
    return pd.DataFrame(
        {
            "component": component,
            "layer": layer,
            "index": np.repeat(list(index), len(rows)),
            "example": np.tile(rows.cpu().numpy(), len(index)),
            "effect": effect.flatten().cpu().numpy(),
            "removed": removed.flatten().cpu().numpy(),
        }
    )
