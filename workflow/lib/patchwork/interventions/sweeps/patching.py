"""Activation patching over layer, position and component, recomputing only what a patch touches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import (
    Batch,
    batches,
    call,
    keep_blocks,
    n_rows,
    parameter_of,
    rewindable,
)
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.fast_path.following import (
    Follower,
    NoFastPath,
    left_padding,
    require_fast,
    require_unpadded,
    shared_rotation,
)
from patchwork.interventions.fast_path.removal import require_linear
from patchwork.interventions.fast_path.streams import (
    BlockRun,
    LastQuery,
    Streams,
    last_query,
    leaving,
    run_block,
)
from patchwork.interventions.hooks import editing, read
from patchwork.interventions.readout import FinalMetric, Metric, embed, score
from patchwork.interventions.sweeps.effects import PatchEffects
from patchwork.interventions.sweeps.grid import (
    DIRECTIONS,
    PER_HEAD,
    WITHIN,
    PatchGrid,
    check_pair,
    place,
)
from patchwork.interventions.sweeps.plan import Plan, describe, pick_chunk, stream_budget
from patchwork.models import sites
from patchwork.models.families.parts import Rotation
from patchwork.models.sites import Anatomy, Site


def patch_sweep(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    grid: PatchGrid | None = None,
    plan: Plan | None = None,
) -> PatchEffects:
    """Effect of patching each component at each layer and position, per pair.

    The fast path runs both inputs once, replaces one row of the residual stream entering the next
    block, and carries on from there; in a causal model only rows from the patched one on are
    recomputed, against the base run's keys and values. Cells where source and base agree in every
    pair are zero and are not computed.

    Args:
        model: a supported model in eval mode; GPT-2 or a ViT.
        clean: n examples, as the model takes them: an array or tensor, or a mapping of such.
        corrupted: the counterparts, row by row, of the same shape; with positions by name another
            length of prompts is allowed.
        metric: (model output, row numbers) -> one number per example, (m,); `LogitDifference`
            spares the rest of the unembedding.
        grid: components, positions and direction.
        plan: chunk size and path.

    Returns:
        Effects per pair with the metric of both runs and metadata.

    Raises:
        ValueError: for inputs of different shapes or padding, a model in training mode or of an
            unknown architecture, or a position out of range.
    """
    sites.require_eval(model)
    grid, plan, anatomy = grid or PatchGrid(), plan or Plan(), sites.find(model)
    rewindable(clean, "clean")
    check_pair(clean, corrupted, grid)
    base, source = (corrupted, clean) if grid.direction == DIRECTIONS[0] else (clean, corrupted)
    keep_blocks()
    sweep = _Sweep(model, anatomy, metric, grid, plan)
    with torch.no_grad():
        try:
            require_fast(model, anatomy, base, plan)
            require_unpadded(source)
            if grid.named:
                raise NoFastPath("positions of each example's own")
            return sweep.run(base, source, fast=True)
        except NoFastPath as reason:
            left = left_padding(anatomy, base)
            sweep.reason = "; ".join(filter(None, [str(reason), left]))
        return sweep.run(base, source, fast=False)


@dataclass
class _Piece:
    """One chunk of pairs under way: its rows, results and the positions still to do."""

    rows: Tensor
    base: Tensor
    source: Tensor
    values: dict[str, Tensor] = field(default_factory=dict)


class _Sweep:
    def __init__(
        self, model: nn.Module, anatomy: Anatomy, metric: Metric, grid: PatchGrid, plan: Plan
    ) -> None:
        self.model, self.anatomy, self.metric = model, anatomy, metric
        self.grid, self.plan = grid, plan
        self.reason = ""
        self.follower = Follower(model, anatomy, metric)
        self.final_metric: FinalMetric | None = None
        self.last: LastQuery | None = None
        self.weights: list[Tensor] = []
        self.rotation: Rotation | None = None

    def _prepare(self) -> None:
        """What the fast path computes from the weights once."""
        anatomy = self.anatomy
        inside = [name for name in self.grid.components if name in WITHIN]
        if inside:
            raise NoFastPath(f"{inside[0]} has no fast path")
        self.last = last_query(anatomy)
        if "head_out" in self.grid.components:
            width = anatomy.n_heads * anatomy.d_head
            for parts in anatomy.blocks:
                require_linear(parts.proj, width)
            self.weights = [kernels.output_weight(parts.proj, width) for parts in anatomy.blocks]

    def run(self, base: Any, source: Any, *, fast: bool) -> PatchEffects:
        """The whole sweep; fast, it raises `NoFastPath` if the model computes otherwise."""
        n = n_rows(base)
        if n == 0:
            raise ValueError("clean holds no example; allowed is at least one")
        first = self._take(base, torch.zeros(1, dtype=torch.int64))
        one = embed(self.model, self.anatomy, first).stream
        positions: tuple[Any, ...] = tuple(self.grid.named or self.grid.tokens(one.shape[1]))
        if fast:
            self._prepare()
        # Memory of one pair's two base runs; the streams are held to a budget of their own.
        each = 16 * self.anatomy.n_layers * one.numel() * one.element_size()
        chunk = pick_chunk(self.model, self.plan, each)
        ordered = self.anatomy.causal and not self.grid.named
        order = by_first_difference(base, source) if ordered else np.arange(n)
        run = self._fast_piece if fast else self._plain_piece
        pieces = []
        for some in torch.from_numpy(order).to(parameter_of(self.model).device).split(chunk):
            pieces.append(run(some, self._take(base, some), self._take(source, some), positions))
        return self._collect(pieces, positions, chunk, fast)

    def _take(self, inputs: Any, rows: Tensor) -> Batch:
        chosen = rows.cpu().numpy()
        back = np.argsort(np.argsort(chosen))
        ordered = np.sort(chosen)  # HDF5 reads rows in rising order only

        if isinstance(inputs, Mapping):
            piece: Any = {name: value[ordered][back] for name, value in inputs.items()}
        else:
            piece = inputs[ordered][back]
        return next(batches(piece, len(chosen), self.model))[1]

    def _empty(self, positions: tuple[Any, ...], n: int, like: Tensor) -> dict[str, Tensor]:
        whole = (self.anatomy.n_layers, len(positions), n)
        heads = (whole[0], self.anatomy.n_heads, *whole[1:])
        return {
            name: like.new_zeros(heads if name in PER_HEAD else whole)
            for name in self.grid.components
        }

    def _collect(
        self, pieces: list[_Piece], positions: tuple[Any, ...], chunk: int, fast: bool
    ) -> PatchEffects:
        back = np.argsort(np.concatenate([piece.rows.cpu().numpy() for piece in pieces]))

        def join(parts: list[Tensor]) -> np.ndarray:
            return torch.cat(parts, dim=-1).cpu().numpy()[..., back]

        values = {
            name: join([piece.values[name] for piece in pieces]) for name in self.grid.components
        }
        metadata = describe(
            "fast" if fast else "plain",
            None if fast else self.reason,
            chunk,
            read=" or ".join(sorted(self.follower.read)) if fast else "all tokens",
            max_clean_deviation=self.follower.deviation,
            architecture=self.anatomy.family,
        )
        return PatchEffects(
            values, positions, join([piece.base for piece in pieces]),
            join([piece.source for piece in pieces]), self.grid.direction, metadata,
        )  # fmt: skip

    def _plain_piece(
        self, rows: Tensor, base: Batch, source: Batch, positions: tuple[Any, ...]
    ) -> _Piece:
        before = score(self.metric, call(self.model, base, rows), rows)
        after = score(self.metric, call(self.model, source, rows), rows)
        values = self._empty(positions, len(rows), before)
        places = [place(self.grid, position, rows) for position in positions]
        for name, out in values.items():
            heads: Sequence[int | None] = range(self.anatomy.n_heads) if out.ndim == 4 else [None]
            for layer in range(self.anatomy.n_layers):
                for head in heads:
                    site = Site(name, layer, head)
                    stored = read(self.model, site, source, rows)[site]
                    for i, both in enumerate(places):
                        cell = (layer, i) if head is None else (layer, head, i)
                        out[cell] = self._patched(site, stored, both, base, rows) - before
        return _Piece(rows, before, after, values)

    def _patched(
        self, site: Site, stored: Tensor, both: tuple[Tensor, Tensor], base: Batch, rows: Tensor
    ) -> Tensor:
        """Metric with one token of each example, `both` in base and source run, patched."""
        each = torch.arange(len(rows), device=rows.device)

        def edit(site: Site, x: Tensor, _: Tensor) -> Tensor:
            new = x.clone()
            new[each, both[0]] = stored[each, both[1]]
            return new

        with editing(self.model, [site], edit, expect_change=False):
            return score(self.metric, call(self.model, base, rows), rows)

    def _fast_piece(
        self, rows: Tensor, base: Batch, source: Batch, positions: tuple[int, ...]
    ) -> _Piece:
        runs, final = self._run(base)
        others, other_final = self._run(source)
        self.final_metric = self.follower.metric_for(base, rows, final)
        self.follower.check(source, rows, other_final)
        before, after = (self._metric(stream, rows) for stream in (final, other_final))
        piece = _Piece(rows, before, after, self._empty(positions, len(rows), before))
        first = first_difference(runs[0].resid_pre, others[0].resid_pre)
        needed = [p for p in positions if not self.anatomy.causal or p >= int(first.min())]
        cells = self._cells_each(final)
        for some in shares(needed, cells, stream_budget(self.model), self.anatomy, final):
            self._positions_pass((runs, others, final), some, positions, piece)
        if self.anatomy.causal:
            self._silence(piece, first, positions)
        return piece

    def _run(self, batch: Batch) -> tuple[list[BlockRun], Tensor]:
        stream, angles = embed(self.model, self.anatomy, batch)
        self.rotation, runs = shared_rotation(angles), []
        for layer in range(self.anatomy.n_layers):
            run, stream = run_block(self.anatomy, layer, stream, self.rotation)
            runs.append(run)
        return runs, stream

    def _metric(self, stream: Tensor, rows: Tensor) -> Tensor:
        assert self.final_metric is not None
        return self.final_metric(self.final_metric.cut(stream), rows)

    def _cells_each(self, final: Tensor) -> int:
        names = self.grid.components
        each = len(names) - 1 + self.anatomy.n_heads if "head_out" in names else len(names)
        return each * self.anatomy.n_layers

    def _positions_pass(
        self,
        runs: tuple[list[BlockRun], list[BlockRun], Tensor],
        some: list[int],
        positions: tuple[int, ...],
        piece: _Piece,
    ) -> None:
        """All cells at some of the positions, in one pass over the layers."""
        own, others, final = runs
        n, t, _ = final.shape
        streams = Streams(self.anatomy, n, t, self.rotation)
        cells: list[tuple[str, tuple[int, ...]]] = []
        where = {p: i for i, p in enumerate(positions)}

        def join(name: str, layer: int, after: Tensor, new: Tensor) -> None:
            """Patch rows `new` (k, n, p, d) into the base stream `after`, p along `some`."""
            # Of all positions at once: a GPU waits for each transfer.
            differs = (new != after[:, some]).any(-1).flatten(0, 1).any(0).tolist()
            for i, position in enumerate(some):
                if not differs[i]:
                    continue
                start = position if self.anatomy.causal else 0
                stream = after[:, start:].expand(len(new), -1, -1, -1).clone()
                stream[:, :, position - start] = new[:, :, i]
                jobs = list(range(len(cells), len(cells) + len(new)))
                heads: list[tuple[int, ...]] = (
                    [(h,) for h in range(len(new))] if name == "head_out" else [()]
                )
                cells.extend((name, (layer, *head, where[position])) for head in heads)
                streams.join(start, jobs, stream)

        final_row = self.final_metric.row if self.final_metric is not None else None
        for layer, (run, other) in enumerate(zip(own, others, strict=True)):
            if "resid_pre" in self.grid.components:
                join("resid_pre", layer, run.resid_pre, other.resid_pre[None, :, some])
            if layer == self.anatomy.n_layers - 1:
                break
            streams.step(layer, run)
            for name in self.grid.components:
                if name != "resid_pre":
                    new = self._rows_after(name, layer, run, other, some)
                    join(name, layer, own[layer + 1].resid_pre, new)
        self._finish(streams, cells, own[-1], final, piece)
        read = some if final_row is None else [p for p in some if p == final_row]
        for name in self.grid.components:
            if name != "resid_pre" and read:
                self._last_block(name, (own[-1], others[-1], final), read, where, piece)

    def _rows_after(
        self, name: str, layer: int, run: BlockRun, other: BlockRun, some: list[int]
    ) -> Tensor:
        """Rows (k, n, p, d) that leave the block when its component is patched at one row each."""
        parts = self.anatomy.blocks[layer]
        if name == "mlp_out":
            new = run.mid[:, some] + parts.mlp_scale(other.mlp_out[:, some].clone())
            return new[None]
        if name == "attn_out":
            mid = run.resid_pre[:, some] + parts.attn_scale(other.attn_out[:, some].clone())
            return leaving(parts, mid[None].contiguous(), run.mlp_out[:, some])
        change = (other.heads - run.heads)[:, some].unflatten(-1, (self.anatomy.n_heads, -1))
        weight = self.weights[layer].unflatten(0, (self.anatomy.n_heads, -1))
        update = parts.attn_scale(torch.einsum("nthe,hed->hntd", change, weight))
        mid = (run.mid[:, some] + update).contiguous()
        return leaving(parts, mid, run.mlp_out[:, some])

    def _finish(
        self, streams: Streams, cells: list, run: BlockRun, final: Tensor, piece: _Piece
    ) -> None:
        assert self.final_metric is not None
        for jobs, last in streams.finish(self.final_metric.row, run, self.last, final):
            values = self.final_metric(last.flatten(0, 1), piece.rows.repeat(len(jobs)))
            changes = values.view(len(jobs), -1) - piece.base
            for name, out in piece.values.items():
                own = [i for i, job in enumerate(jobs) if cells[job][0] == name]
                if own:
                    where = torch.tensor([cells[jobs[i]][1] for i in own], device=out.device)
                    out[tuple(where.T)] = changes[own]

    def _last_block(
        self,
        name: str,
        runs: tuple[BlockRun, BlockRun, Tensor],
        some: list[int],
        where: dict[int, int],
        piece: _Piece,
    ) -> None:
        """Outputs of the last block: a patch changes one final row and nothing else."""
        assert self.final_metric is not None
        run, other, final = runs
        layer = self.anatomy.n_layers - 1
        new = self._rows_after(name, layer, run, other, some)
        for i, position in enumerate(some):
            stream = final.expand(len(new), -1, -1, -1).clone()
            stream[:, :, position] = new[:, :, i]
            if self.final_metric.row is not None:
                stream = stream[:, :, [self.final_metric.row]]
            values = self.final_metric(stream.flatten(0, 1), piece.rows.repeat(len(new)))
            change = values.view(len(new), -1) - piece.base
            cell = piece.values[name][layer]
            if name == "head_out":
                cell[:, where[position]] = change
            else:
                cell[where[position]] = change[0]

    def _silence(self, piece: _Piece, first: Tensor, positions: tuple[int, ...]) -> None:
        """Cells before an example's own first difference are zero: drop the rounding there."""
        tokens = torch.tensor(positions, device=first.device)
        for values in piece.values.values():
            values.masked_fill_(tokens[:, None] < first, 0.0)


def first_difference(base: Tensor, source: Tensor) -> Tensor:
    """First token at which first streams (n, t, d) of each pair differ, (n,); t where none does."""
    differs = (base != source).any(-1)
    first = differs.to(torch.uint8).argmax(1)
    return torch.where(differs.any(1), first, differs.shape[1])


def by_first_difference(base: Any, source: Any) -> np.ndarray:
    """Order of pairs that puts those with a like first difference into one chunk, if they are ids.

    It saves work and decides nothing.
    """
    n = n_rows(base)
    if isinstance(base, Mapping):
        base, source = base.get("input_ids"), source.get("input_ids")
    if base is None or len(base.shape) != 2:
        return np.arange(n)
    one, other = (np.asarray(x.cpu() if isinstance(x, Tensor) else x) for x in (base, source))
    differs = one != other
    first = np.where(differs.any(1), differs.argmax(1), differs.shape[1])
    return np.argsort(first, kind="stable")


def shares(
    needed: list[int], cells: int, budget: int, anatomy: Anatomy, final: Tensor
) -> list[list[int]]:
    """Cut positions so that the streams of each share fit the budget; packing holds them twice."""
    n, t, d = final.shape
    shares: list[list[int]] = []
    room = 0
    for position in needed:
        rows = t - position if anatomy.causal else t
        cost = 2 * cells * n * rows * d * final.element_size()
        if not shares or cost > room:
            shares.append([])
            room = budget
        shares[-1].append(position)
        room -= cost
    return shares
