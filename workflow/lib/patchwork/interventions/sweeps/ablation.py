"""Ablation of every head, in one pass over the layers where the model allows it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import (
    Batch,
    batches,
    call,
    keep_blocks,
    parameter_of,
    rewindable,
)
from patchwork.interventions.contexts import BASELINES, cut_attention
from patchwork.interventions.fast_path.following import (
    Follower,
    NoFastPath,
    left_padding,
    require_fast,
    shared_rotation,
)
from patchwork.interventions.fast_path.packing import packed
from patchwork.interventions.fast_path.removal import HeadRemoval
from patchwork.interventions.fast_path.streams import BlockRun, Streams, last_query, run_block
from patchwork.interventions.hooks import Edit, editing, mean_activations
from patchwork.interventions.readout import FinalMetric, Metric, embed, score
from patchwork.interventions.sweeps.effects import AblationEffects
from patchwork.interventions.sweeps.plan import Plan, describe, pick_chunk
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

_FAST_BASELINES = ("zero", "mean")


def head_ablation_sweep(
    model: nn.Module,
    inputs: Any,
    metric: Metric,
    *,
    baselines: Sequence[str] = ("zero", "mean"),
    reference: Any = None,
    plan: Plan | None = None,
) -> AblationEffects:
    """Effect of ablating each head alone on a metric, per example.

    The fast path carries all ablated streams through the layers together, subtracts a head's
    contribution W_O z (or W_O (z - mean)) from its own block's attention, and computes in the
    last block only the token that the metric reads. It needs pre-norm blocks and unpadded
    inputs; otherwise, and for other baselines than zero and mean, one forward pass per head is
    run, and `metadata["reason"]` says so.

    Args:
        model: a supported model in eval mode, wrapped or not.
        inputs: n examples that the model takes: sliceable (tensor, array, HDF5 dataset, mapping
            of such) or a list of batches; streamed.
        metric: (model output, row numbers of its examples) -> one number per example, shape (m,);
            an example's number may depend on that example only.
        baselines: of `zero`, `mean`, `token_mean`, `resample`, `noise`.
        reference: examples for means and `resample`; the inputs themselves if None.
        plan: chunk size and path.

    Returns:
        Effects (baselines, layers, heads, n) with metadata.

    Raises:
        ValueError: for a model in training mode or of an unknown architecture, an unknown
            baseline, inputs or a reference that can be read only once, a metric that does not give
            one number for each example, or examples of other token lengths for `mean`.
    """
    sites.require_eval(model)
    plan, anatomy = plan or Plan(), sites.find(model)
    rewindable(inputs, "inputs")
    rewindable(reference, "reference")
    reference = inputs if reference is None else reference
    unknown = [name for name in baselines if name not in BASELINES or name == "knockout"]
    if unknown or not baselines:
        allowed = [name for name in BASELINES if name != "knockout"]
        raise ValueError(f"baselines is {list(baselines)}; allowed is some of {', '.join(allowed)}")
    keep_blocks()
    with torch.no_grad():
        try:
            require_fast(model, anatomy, inputs, plan)
            slow = [name for name in baselines if name not in _FAST_BASELINES]
            if slow:
                raise NoFastPath(f"baseline {slow[0]} has no fast path")
            sweep = _FastSweep(model, anatomy, metric, tuple(baselines), plan)
            return sweep.run(inputs, reference)
        except NoFastPath as reason:
            left = left_padding(anatomy, inputs)
            how = (plan, "; ".join(filter(None, [str(reason), left])))
        return _plain(model, inputs, metric, tuple(baselines), reference, how)


class _FastSweep:
    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        metric: Metric,
        baselines: tuple[str, ...],
        plan: Plan,
    ) -> None:
        self.model, self.anatomy = model, anatomy
        self.baselines, self.plan = baselines, plan
        self.follower = Follower(model, anatomy, metric)
        self.last = last_query(anatomy)
        self.removals = [HeadRemoval(anatomy, layer) for layer in range(anatomy.n_layers)]
        self.means: list[Tensor] = []

    def run(self, inputs: Any, reference: Any) -> AblationEffects:
        """The whole sweep; raises `NoFastPath` if the model turns out to compute otherwise."""
        if "mean" in self.baselines:
            names = [Site("head_out", layer) for layer in range(self.anatomy.n_layers)]
            means = mean_activations(self.model, names, reference)
            self.means = [means[name] for name in names]
        chunk, effects, clean = 0, [], []
        for rows, batch in self._batches(inputs):
            chunk = max(chunk, len(rows))
            changes, own = self._chunk(rows, batch)
            effects.append(changes.cpu().numpy())
            clean.append(own.cpu().numpy())
        metadata = describe(
            "fast", None, chunk, read=" or ".join(sorted(self.follower.read)),
            max_clean_deviation=self.follower.deviation, architecture=self.anatomy.family,
        )  # fmt: skip
        return AblationEffects(
            np.concatenate(effects, axis=-1), np.concatenate(clean), self.baselines, metadata
        )

    def _batches(self, inputs: Any) -> Iterator[tuple[Tensor, Batch]]:
        first = next(iter(batches(inputs, 1, self.model)), None)
        if first is None:
            raise ValueError("inputs holds no example; allowed is at least one")
        stream = embed(self.model, self.anatomy, first[1]).stream
        # Every stream of the last block, twice: packing copies small ones.
        n_streams = len(self.baselines) * self.anatomy.n_layers * self.anatomy.n_heads
        each = 2 * n_streams * stream[0].numel() * stream.element_size()
        return batches(inputs, pick_chunk(self.model, self.plan, each), self.model)

    def _chunk(self, rows: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Effects (baselines, layers, heads, m) and clean metric (m,) of one piece."""
        anatomy = self.anatomy
        stream, angles = embed(self.model, anatomy, batch)
        rotation = shared_rotation(angles)
        n, t, _ = stream.shape
        if self.means and self.means[0].shape[1] != t:
            raise ValueError(
                f"reference has {self.means[0].shape[1]} tokens and inputs {t}; "
                "allowed for baseline mean is one token length"
            )
        streams, n_heads = Streams(anatomy, n, t, rotation), anatomy.n_heads
        per_layer = len(self.baselines) * n_heads
        for layer in range(anatomy.n_layers - 1):
            jobs = list(range(layer * per_layer, (layer + 1) * per_layer))
            with packed(anatomy.blocks[layer].block, (1 + jobs[-1]) * n * t):
                run, following = run_block(anatomy, layer, stream, rotation)
                streams.step(layer, None)
                streams.join(0, jobs, self._ablated(layer, run, None))
            stream = following
        run, final = run_block(anatomy, anatomy.n_layers - 1, stream, rotation)
        final_metric = self.follower.metric_for(batch, rows, final)
        clean = final_metric(final_metric.cut(final), rows)
        results = clean.new_empty(anatomy.n_layers * per_layer, n)
        ablated = self._ablated(anatomy.n_layers - 1, run, final_metric.row)
        results[-per_layer:] = _read(final_metric, ablated, rows)
        for jobs, last in streams.finish(final_metric.row, run, self.last, final):
            results[jobs] = _read(final_metric, last, rows)
        shaped = results.view(anatomy.n_layers, len(self.baselines), n_heads, n).transpose(0, 1)
        return shaped - clean, clean

    def _ablated(self, layer: int, run: BlockRun, row: int | None) -> Tensor:
        """Streams after the block with each head ablated, (baselines x heads, n, t or 1, d)."""
        tokens = slice(None) if row is None else [row]
        z = run.heads[:, tokens].unflatten(-1, (self.anatomy.n_heads, -1))
        removed = []
        for baseline in self.baselines:
            kept = self.means[layer][:, tokens].view_as(z[:1]) if baseline == "mean" else 0
            removed.append(z - kept)
        parts, mid = self.anatomy.blocks[layer], run.mid[:, tokens]
        if parts.order == "parallel":
            mid = mid + parts.mlp_scale(run.mlp_out[:, tokens].clone())
        return self.removals[layer](mid, removed)


def _read(final_metric: FinalMetric, streams: Tensor, rows: Tensor) -> Tensor:
    """Metric (jobs, n) of final streams (jobs, n, t or 1, d)."""
    jobs = len(streams)
    return final_metric(streams.flatten(0, 1), rows.repeat(jobs)).view(jobs, -1)


def _plain(
    model: nn.Module,
    inputs: Any,
    metric: Metric,
    baselines: tuple[str, ...],
    reference: Any,
    how: tuple[Plan, str],
) -> AblationEffects:
    plan, reason = how
    anatomy = sites.find(model)
    chunk = plan.chunk or _plain_chunk(model, anatomy)
    groups = {str(site): [site] for site in sites.resolve(model, "*.head_out.*", anatomy)}
    clean = _metric_over(model, inputs, metric, chunk)
    values = [
        [
            _metric_over(model, inputs, metric, chunk, (group, edit)) - clean
            for group, edit in _edits(model, groups, baseline, reference)
        ]
        for baseline in baselines
    ]
    shaped = np.asarray(values).reshape(len(baselines), anatomy.n_layers, anatomy.n_heads, -1)
    metadata = describe("plain", reason, chunk, read="all tokens", architecture=anatomy.family)
    return AblationEffects(shaped, clean, baselines, metadata)


def _plain_chunk(model: nn.Module, anatomy: Anatomy) -> int:
    """More images fill a GPU; a text model gives a vocabulary of outputs for each token."""
    return 16 if anatomy.causal or parameter_of(model).device.type == "cpu" else 128


def _edits(
    model: nn.Module,
    groups: Mapping[str, list[Site]],
    baseline: str,
    reference: Any,
    seed: int = 0,
) -> Iterator[tuple[list[Site], Edit]]:
    if baseline not in ("mean", "token_mean"):
        for group in groups.values():
            yield group, BASELINES[baseline](model, group, reference, seed)
        return
    every = list(dict.fromkeys(site for group in groups.values() for site in group))
    edit = BASELINES[baseline](model, every, reference, seed)  # all means in one pass
    for group in groups.values():
        yield group, edit


def _metric_over(
    model: nn.Module,
    inputs: Any,
    metric: Metric,
    chunk: int,
    ablation: tuple[list[Site], Edit] | None = None,
) -> np.ndarray:
    """Metric of every example, under an ablation or without one."""
    values: list[np.ndarray] = []
    for rows, batch in batches(inputs, chunk, model):
        if ablation is None:
            output = call(model, batch, rows)
        else:
            group, edit = ablation
            cut = edit is cut_attention
            with editing(model, group, edit, expect_change=False, renormalise=cut):
                output = call(model, batch, rows)
        values.append(score(metric, output, rows).cpu().numpy())
    if not values:
        raise ValueError("inputs holds no example; allowed is at least one")
    return np.concatenate(values)


def group_ablation_sweep(
    model: nn.Module,
    inputs: Any,
    metric: Metric,
    groups: Mapping[str, str | Site | Iterable[str | Site]],
    *,
    baseline: str = "zero",
    reference: Any = None,
) -> pd.DataFrame:
    """Effect of ablating groups of sites together: head pairs, whole layers, any set.

    Args:
        model: a supported model in eval mode.
        inputs: as for `head_ablation_sweep`.
        metric: as for `head_ablation_sweep`.
        groups: name to sites that are ablated together; in any order.
        baseline: `zero`, `mean`, `token_mean`, `resample`, `noise` or (for patterns) `knockout`.
        reference: examples for means and `resample`; the inputs themselves if None.

    Returns:
        Columns group, baseline, example, clean (the metric without intervention), effect
        (ablated minus clean); one row for each group and example.

    Raises:
        ValueError: for sites that match nothing, an unknown baseline or a model in training mode.
    """
    sites.require_eval(model)
    rewindable(inputs, "inputs")
    if baseline not in BASELINES:
        raise ValueError(f"baseline is {baseline!r}; allowed is {', '.join(BASELINES)}")
    if not groups:
        raise ValueError("groups is empty; allowed is at least one group of sites")
    resolved = {name: sites.resolve(model, chosen) for name, chosen in groups.items()}
    for group in resolved.values():
        sites.refuse_overlap(group)
    rewindable(reference, "reference")
    reference = inputs if reference is None else reference
    with torch.no_grad():
        clean = _metric_over(model, inputs, metric, 16)
        frames = [
            pd.DataFrame({"group": name, "baseline": baseline, "example": range(len(clean)),
                          "clean": clean,
                          "effect": _metric_over(model, inputs, metric, 16, ablation) - clean})
            for name, ablation in zip(
                resolved, _edits(model, resolved, baseline, reference), strict=True
            )
        ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)
