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
    Unfit,
    require_fast,
    require_unpadded,
)
from patchwork.interventions.fast_path.removal import require_linear
from patchwork.interventions.fast_path.streams import (
    BlockRun,
    LastQuery,
    Streams,
    add_mlp,
    last_query,
    run_block,
)
from patchwork.interventions.hooks import editing, read
from patchwork.interventions.readout import Metric, Readout, embed, score
from patchwork.interventions.sweeps.effects import PatchEffects
from patchwork.interventions.sweeps.pairs import (
    DIRECTIONS,
    PatchGrid,
    by_first_difference,
    check_pair,
    first_difference,
    shares,
)
from patchwork.interventions.sweeps.plan import Plan, describe, pick_chunk, stream_budget
from patchwork.models import sites
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
        corrupted: the same shape; row i is the counterpart of clean row i.
        metric: (model output, row numbers) -> one number per example, (m,); `LogitDifference`
            spares the rest of the unembedding.
        grid: components, positions and direction.
        plan: chunk size, tail and path.

    Returns:
        Effects per pair with the metric of both runs and metadata.

    Raises:
        ValueError: for inputs of different shapes, a model in training mode or of an unknown
            architecture, or a position out of range.
    """
    sites.require_eval(model)
    check_pair(clean, corrupted)
    rewindable(clean, "clean")
    grid, plan, anatomy = grid or PatchGrid(), plan or Plan(), sites.find(model)
    base, source = (corrupted, clean) if grid.direction == DIRECTIONS[0] else (clean, corrupted)
    keep_blocks()
    sweep = _Sweep(model, anatomy, metric, grid, plan)
    with torch.no_grad():
        try:
            require_fast(model, anatomy, base, plan)
            require_unpadded(source)
            return sweep.run(base, source, fast=True)
        except Unfit as unfit:
            sweep.reason = str(unfit)
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
        self.follower = Follower(model, anatomy, metric, plan)
        self.readout: Readout | None = None
        self.last: LastQuery | None = None
        self.weights: list[Tensor] = []

    def _prepare(self) -> None:
        """What the fast path computes from the weights once."""
        anatomy = self.anatomy
        self.last = last_query(anatomy)
        if "head_out" in self.grid.components:
            width = anatomy.n_heads * anatomy.d_head
            for parts in anatomy.blocks:
                require_linear(parts.proj, width)
            self.weights = [kernels.output_weight(parts.proj, width) for parts in anatomy.blocks]

    def run(self, base: Any, source: Any, *, fast: bool) -> PatchEffects:
        """The whole sweep; fast, it raises `Unfit` if that turns out not to follow the model."""
        n = n_rows(base)
        if n == 0:
            raise ValueError("clean holds no example; allowed is at least one")
        positions = self._positions(base)
        if fast:
            self._prepare()
        chunk = pick_chunk(self.model, self.plan, self._bytes_each(base))
        order = by_first_difference(base, source) if self.anatomy.causal else np.arange(n)
        pieces: list[_Piece] = []
        for first in range(0, n, chunk):
            rows = torch.from_numpy(order[first : first + chunk]).to(
                parameter_of(self.model).device
            )
            run = self._fast_piece if fast else self._plain_piece
            pieces.append(run(rows, self._take(base, rows), self._take(source, rows), positions))
        return self._collect(pieces, positions, chunk, fast)

    def _take(self, inputs: Any, rows: Tensor) -> Batch:
        chosen = rows.cpu().numpy()
        back = np.argsort(np.argsort(chosen))
        ordered = np.sort(chosen)  # HDF5 reads rows in rising order only

        def take(values: Any) -> Any:
            return values[ordered][back]

        piece = (
            {name: take(value) for name, value in inputs.items()}
            if isinstance(inputs, Mapping)
            else take(inputs)
        )
        return next(batches(piece, len(chosen), self.model))[1]

    def _positions(self, inputs: Any) -> tuple[int, ...]:
        first = self._take(inputs, torch.zeros(1, dtype=torch.int64))
        return self.grid.tokens(embed(self.model, self.anatomy, first).shape[1])

    def _bytes_each(self, inputs: Any) -> int:
        """Memory of one pair's two base runs; the streams are held to a budget of their own."""
        first = self._take(inputs, torch.zeros(1, dtype=torch.int64))
        stream = embed(self.model, self.anatomy, first)
        return 16 * self.anatomy.n_layers * stream.numel() * stream.element_size()

    def _empty(self, positions: tuple[int, ...], n: int, like: Tensor) -> dict[str, Tensor]:
        layers, heads = self.anatomy.n_layers, self.anatomy.n_heads
        return {
            name: like.new_zeros(
                layers, *((heads,) if name == "head_out" else ()), len(positions), n
            )
            for name in self.grid.components
        }

    def _collect(
        self, pieces: list[_Piece], positions: tuple[int, ...], chunk: int, fast: bool
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
        self, rows: Tensor, base: Batch, source: Batch, positions: tuple[int, ...]
    ) -> _Piece:
        before = score(self.metric, call(self.model, base), rows)
        after = score(self.metric, call(self.model, source), rows)
        values = self._empty(positions, len(rows), before)
        for name, out in values.items():
            heads: Sequence[int | None] = range(self.anatomy.n_heads) if out.ndim == 4 else [None]
            for layer in range(self.anatomy.n_layers):
                for head in heads:
                    whole = Site(name, layer, head)
                    stored = read(self.model, whole, source)[whole]
                    for i, position in enumerate(positions):
                        site = Site(name, layer, head, (position,))
                        cell = (layer, i) if head is None else (layer, head, i)
                        out[cell] = self._patched(site, stored, base, rows) - before
        return _Piece(rows, before, after, values)

    def _patched(self, site: Site, stored: Tensor, base: Batch, rows: Tensor) -> Tensor:
        assert site.positions is not None
        new = stored[:, list(site.positions)]
        with editing(self.model, [site], lambda s, x, r: new, expect_change=False):
            return score(self.metric, call(self.model, base), rows)

    def _fast_piece(
        self, rows: Tensor, base: Batch, source: Batch, positions: tuple[int, ...]
    ) -> _Piece:
        runs, final = self._run(base)
        others, other_final = self._run(source)
        self.readout = self.follower.readout_for(base, rows, final)
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
        stream, runs = embed(self.model, self.anatomy, batch), []
        for layer in range(self.anatomy.n_layers):
            run, stream = run_block(self.anatomy, layer, stream)
            runs.append(run)
        return runs, stream

    def _metric(self, stream: Tensor, rows: Tensor) -> Tensor:
        assert self.readout is not None
        row = self.readout.row
        return self.readout(stream if row is None else stream[:, [row]], rows)

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
        streams = Streams(self.anatomy, n, t)
        cells: list[tuple[str, tuple[int, ...]]] = []
        where = {p: i for i, p in enumerate(positions)}

        def join(name: str, layer: int, after: Tensor, new: Tensor) -> None:
            """Patch rows `new` (k, n, p, d) into the base stream `after`, p along `some`."""
            for i, position in enumerate(some):
                row = after[:, position]
                if not bool((new[:, :, i] != row).any()):
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

        final_row = self.readout.row if self.readout is not None else None
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
            return add_mlp(parts, mid[None].contiguous())
        change = (other.heads - run.heads)[:, some].unflatten(-1, (self.anatomy.n_heads, -1))
        weight = self.weights[layer].unflatten(0, (self.anatomy.n_heads, -1))
        update = parts.attn_scale(torch.einsum("nthe,hed->hntd", change, weight))
        return add_mlp(parts, (run.mid[:, some] + update).contiguous())

    def _finish(
        self, streams: Streams, cells: list, run: BlockRun, final: Tensor, piece: _Piece
    ) -> None:
        assert self.readout is not None
        for jobs, last in streams.finish(self.readout.row, run, self.last, final):
            values = self.readout(last.flatten(0, 1), piece.rows.repeat(len(jobs)))
            for job, value in zip(jobs, values.view(len(jobs), -1), strict=True):
                name, cell = cells[job]
                piece.values[name][cell] = value - piece.base

    def _last_block(
        self,
        name: str,
        runs: tuple[BlockRun, BlockRun, Tensor],
        some: list[int],
        where: dict[int, int],
        piece: _Piece,
    ) -> None:
        """Outputs of the last block: a patch changes one final row and nothing else."""
        assert self.readout is not None
        run, other, final = runs
        layer = self.anatomy.n_layers - 1
        new = self._rows_after(name, layer, run, other, some)
        for i, position in enumerate(some):
            stream = final.expand(len(new), -1, -1, -1).clone()
            stream[:, :, position] = new[:, :, i]
            if self.readout.row is not None:
                stream = stream[:, :, [self.readout.row]]
            values = self.readout(stream.flatten(0, 1), piece.rows.repeat(len(new)))
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
