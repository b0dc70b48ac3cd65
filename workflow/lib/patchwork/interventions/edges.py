"""Edges: an estimate of what every part sends to every later one, from one backward pass."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, batches, rewindable
from patchwork.interventions.direct import final_readout
from patchwork.interventions.paths import LOGITS, Paths
from patchwork.interventions.readout import Metric, score
from patchwork.interventions.sweeps import within_attention
from patchwork.interventions.sweeps.attribution import taped
from patchwork.interventions.sweeps.grid import DIRECTIONS, check_pair
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

COLUMNS = ["component", "layer", "head", "receiver", "effect"]


def edge_sweep(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    direction: str = "clean_to_corrupted",
    chunk: int = 8,
    fix: bool = True,
) -> pd.DataFrame:
    """Estimate `path_sweep` from every head and MLP to every later query, key, value, MLP, logits.

    What a receiver makes of a sender's exchange is computed as in `path_sweep`, its norm, MLP and
    (with `fix`) softmax included; only what the rest of the model makes of that is taken from one
    gradient. Towards the logits the effect is exact.

    Args:
        model: a supported pre-norm model in eval mode.
        clean: n examples, as for `patch_sweep`.
        corrupted: the counterparts.
        metric: as for `patch_sweep`; differentiable.
        direction: which run is the source.
        chunk: pairs at once.
        fix: whether queries and keys go through the softmax itself (AtP*) or its slope.

    Returns:
        Columns component (`head_out`, `mlp_out`), layer, head (-1 for MLPs) of the sender, receiver
        (such as `2.q.1`, `3.mlp_out`, `logits`) and effect, the mean over pairs.

    Raises:
        ValueError: as for `path_sweep`, or for a metric without a gradient.

    Source:
        Syed, Rager, Conmy 2023, Attribution Patching Outperforms Automated Circuit Discovery (edge
        attribution); Kramar et al. 2024, AtP* (softmax).
    """
    sites.require_eval(model)
    check_pair(clean, corrupted)
    rewindable(clean, "clean")
    anatomy = sites.find(model)
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; allowed is {', '.join(DIRECTIONS)}")
    if anatomy.blocks[0].order == "post":
        raise ValueError(
            f"edge_sweep: {anatomy.family} has norms behind its layers; allowed is pre-norm"
        )
    base, source = (corrupted, clean) if direction == DIRECTIONS[0] else (clean, corrupted)
    sums: dict[tuple, float] = {}
    n = 0
    pairs = zip(batches(base, chunk, model), batches(source, chunk, model), strict=True)
    for (rows, mine), (_, other) in pairs:
        for edge, effects in _edges(model, anatomy, metric, (mine, other, rows), fix):
            sums[edge] = sums.get(edge, 0.0) + float(effects.sum())
        n += len(rows)
    return pd.DataFrame([(*edge, total / n) for edge, total in sums.items()], columns=COLUMNS)


def _edges(
    model: nn.Module,
    anatomy: Anatomy,
    metric: Metric,
    data: tuple[Batch, Batch, Tensor],
    fix: bool,
) -> Iterator[tuple[tuple[str, int, int, str], Tensor]]:
    """Each edge (component, layer, head, receiver) with its effect in every pair, (n,)."""
    base, source, rows = data
    layers = range(anatomy.n_layers)
    keys = [(name, layer) for name in ("head_out", "mlp_out") for layer in layers]
    with torch.enable_grad():
        value, tape = taped(model, anatomy, metric, base, rows)
        if not value.requires_grad:
            raise ValueError("metric has no gradient; allowed is one that can be differentiated")
        found = torch.autograd.grad(value.sum(), [tape.kept[key] for key in keys])
    slopes = dict(zip(keys, found, strict=True))
    with torch.no_grad():
        paths = Paths(model, anatomy, base, source, rows, None)
        final = paths.base[Site("resid_post", anatomy.n_layers - 1)]
        readout, before = final_readout(model, anatomy, base), value.detach()
        for sender, change in paths.changes():
            yield (*sender, LOGITS), score(metric, readout(final + change), rows) - before
            for layer in layers:
                whole = Site("q", layer)
                if paths.reaches(sender, whole):
                    stream = paths.base[Site("resid_pre", layer)] + change
                    parts = anatomy.blocks[layer]
                    effects = within_attention.attributed(
                        parts, anatomy.causal, tape.attention[layer],
                        parts.qkv(parts.attn_norm(stream)), slopes["head_out", layer],
                        within_attention.NAMES, fix, together=True,
                    )  # fmt: skip
                    for name, values in effects.items():
                        for head in range(anatomy.n_heads):
                            yield (*sender, f"{layer}.{name}.{head}"), values[:, head].sum(-1)
                mlp = Site("mlp_out", layer)
                if paths.reaches(sender, mlp):
                    moved = paths.received(mlp, change) - paths.base[mlp]
                    product = slopes["mlp_out", layer].view_as(moved) * moved
                    yield (*sender, str(mlp)), product.sum((-2, -1))
