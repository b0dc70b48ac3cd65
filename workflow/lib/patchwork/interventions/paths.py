"""Path patching: what one part sends to another, and to nothing else."""

from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, batches, call, n_rows, rewindable
from patchwork.interventions.contexts import patch
from patchwork.interventions.direct import final_readout
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.hooks import read
from patchwork.interventions.readout import Metric, score
from patchwork.interventions.sweeps.grid import DIRECTIONS, check_pair
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

LOGITS = "logits"
RECEIVERS = ("q", "k", "v", "mlp_out")


def path_sweep(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    receivers: str | Site | Iterable[str | Site],
    *,
    direction: str = "clean_to_corrupted",
    positions: tuple[int, ...] | None = None,
    chunk: int = 8,
) -> pd.DataFrame:
    """Effect of every earlier head and MLP on receivers by the direct path alone, per pair.

    Of one sender at a time, what it writes in the source run replaces what it writes in the base
    run, but only in the stream that the receivers read: everything between the two keeps its
    base value. The receivers' new queries, keys, values or MLP outputs are then patched into the
    base run, and all that follows is computed. Both runs are read once for all senders; towards
    the logits no further pass is run.

    Args:
        model: a supported pre-norm model in eval mode.
        clean: n examples, as for `patch_sweep`.
        corrupted: the counterparts.
        metric: (model output, row numbers) -> one number per example, (m,).
        receivers: `logits`, or sites `q`, `k`, `v` (of a head or of all) or `mlp_out`; several
            receive together.
        direction: which run is the source, as for `patch_sweep`.
        positions: tokens at which the senders' outputs are exchanged; None is all.
        chunk: pairs at once.

    Returns:
        Columns component (`head_out`, `mlp_out`), layer, head (-1 for MLPs), example, effect
        (patched minus base), base and source (the metric of both runs); senders that come before
        at least one receiver.

    Raises:
        ValueError: for other receivers, or as for `patch_sweep`.

    Source:
        Wang et al. 2022, Interpretability in the Wild, section 3.1 (path patching); with MLPs held
        as well, TransformerLens names it the direct path.
    """
    sites.require_eval(model)
    check_pair(clean, corrupted)
    rewindable(clean, "clean")
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; allowed is {', '.join(DIRECTIONS)}")
    if n_rows(clean) == 0:
        raise ValueError("clean holds no example; allowed is at least one")
    anatomy = sites.find(model)
    if anatomy.blocks[0].order == "post":
        raise ValueError(
            f"path_sweep: {anatomy.family} has norms behind its layers; allowed is pre-norm"
        )
    chosen = None if receivers == LOGITS else sites.resolve(model, receivers, anatomy)
    wrong = [s for s in chosen or () if s.kind not in RECEIVERS or s.positions is not None]
    if wrong:
        raise ValueError(
            f"receiver {wrong[0]}; allowed is {LOGITS}, or {', '.join(RECEIVERS)} at all positions"
        )
    base, source = (corrupted, clean) if direction == DIRECTIONS[0] else (clean, corrupted)
    frames = []
    with torch.no_grad():
        pairs = zip(batches(base, chunk, model), batches(source, chunk, model), strict=True)
        for (rows, mine), (_, other) in pairs:
            sweep = Paths(model, anatomy, mine, other, rows, positions)
            before = score(metric, call(model, mine, rows), rows)
            after = score(metric, call(model, other, rows), rows)
            for (component, layer, head), output in sweep.run(chosen):
                frames.append(
                    pd.DataFrame(
                        {
                            "component": component,
                            "layer": layer,
                            "head": head,
                            "example": rows.cpu().numpy(),
                            "effect": (score(metric, output, rows) - before).cpu().numpy(),
                            "base": before.cpu().numpy(),
                            "source": after.cpu().numpy(),
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)


class Paths:
    """One piece of pairs: both runs, and what each sender's exchange adds to a stream."""

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        base: Batch,
        source: Batch,
        rows: Tensor,
        positions: tuple[int, ...] | None,
    ) -> None:
        self.model, self.anatomy, self.batch, self.rows = model, anatomy, base, rows
        self.positions = positions
        names = ["*.head_out", "*.mlp_out", "*.resid_pre", "*.attn_out"]
        names.append(f"{anatomy.n_layers - 1}.resid_post")
        self.base = read(model, names, base, rows)
        self.source = read(model, names[:2], source, rows)

    def run(self, receivers: list[Site] | None) -> Iterator[tuple[tuple[str, int, int], Any]]:
        """Each sender (component, layer, head) with the model's output under its exchange."""
        if receivers is None:
            final = self.base[Site("resid_post", self.anatomy.n_layers - 1)]
            readout = final_readout(self.model, self.anatomy, self.batch)
            for sender, change in self.changes():
                yield sender, readout(final + change)
            return
        for sender, change in self.changes():
            reached = [site for site in receivers if self.reaches(sender, site)]
            if reached:
                new = {site: self.received(site, change) for site in reached}
                with patch(self.model, reached, new, expect_change=False):
                    yield sender, call(self.model, self.batch, self.rows)

    def reaches(self, sender: tuple[str, int, int], receiver: Site) -> bool:
        """Whether what a sender writes is in the stream that a receiver reads."""
        component, layer, _ = sender
        same_block = (
            receiver.kind == "mlp_out"
            and component == "head_out"
            and self.anatomy.blocks[layer].order == "sequential"
        )
        return layer < receiver.layer or (same_block and layer == receiver.layer)

    def changes(self) -> Iterator[tuple[tuple[str, int, int], Tensor]]:
        """Source minus base of what each sender writes, (n, t, d)."""
        anatomy = self.anatomy
        for layer, parts in enumerate(anatomy.blocks):
            site = Site("head_out", layer)
            z = (self.source[site] - self.base[site]).unflatten(-1, (anatomy.n_heads, -1))
            width = anatomy.n_heads * anatomy.d_head
            weight = kernels.output_weight(parts.proj, width).unflatten(0, (anatomy.n_heads, -1))
            for head in range(anatomy.n_heads):
                written = parts.attn_scale(z[:, :, head] @ weight[head])
                yield ("head_out", layer, head), self._at_positions(written)
            site = Site("mlp_out", layer)
            two = [parts.mlp_scale(run[site].clone()) for run in (self.source, self.base)]
            yield ("mlp_out", layer, -1), self._at_positions(two[0] - two[1])

    def _at_positions(self, change: Tensor) -> Tensor:
        if self.positions is None:
            return change
        kept = torch.zeros_like(change)
        kept[:, list(self.positions)] = change[:, list(self.positions)]
        return kept

    def received(self, site: Site, change: Tensor) -> Tensor:
        """The receiver's activation from its stream with a sender's exchange."""
        parts, stream = self.anatomy.blocks[site.layer], self.base[Site("resid_pre", site.layer)]
        if site.kind == "mlp_out":
            if parts.order == "sequential":
                stream = stream + parts.attn_scale(self.base[Site("attn_out", site.layer)].clone())
            return parts.mlp(parts.mlp_norm(stream + change))
        made = parts.qkv(parts.attn_norm(stream + change))[RECEIVERS.index(site.kind)]
        if site.index is not None:
            return made[:, site.index]
        return made.transpose(1, 2).flatten(-2)
