"""Residual streams that differ from a base run, carried through the blocks in one packed matrix.

A stream is the residual stream of one intervention. It starts at a row: in a causal model rows
before the intervened position equal the base run's and are not carried; their keys and values
come from the base run. Streams that enter at later blocks join then, so no prefix is computed
twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from patchwork.interventions.fast_path.kernels import is_linear
from patchwork.interventions.fast_path.packing import packed
from patchwork.models.families.parts import Rotation
from patchwork.models.sites import Anatomy, BlockParts

# Rows in one matrix product. On a CPU the MLP's hidden layer of 1,024 rows still fits the last
# cache, and the allocator hands the same memory out again instead of mapping it anew, which costs
# up to a tenth of a sweep; a GPU wants more to fill its multiprocessors.
_ROWS = {"cpu": 1024}
_ROWS_ELSEWHERE = 1 << 16
# Final tokens that the model's own read-out gets at a time: a vocabulary of outputs for each.
_READ_ROWS = 1024


def row_limit(device: torch.device) -> int:
    """Rows of the residual stream that one matrix product takes."""
    return _ROWS.get(device.type, _ROWS_ELSEWHERE)


def add_mlp(parts: BlockParts, mid: Tensor) -> Tensor:
    """Add the MLP's branch to the stream after attention, in place; any shape (..., d)."""
    flat = mid.view(-1, mid.shape[-1])
    with packed(parts.block, len(flat)):
        for piece in flat.split(row_limit(mid.device)):
            piece += parts.mlp_scale(parts.mlp(parts.mlp_norm(piece)))
    return mid


@dataclass(frozen=True)
class BlockRun:
    """What one block did in a base run; all (n, t, ...)."""

    resid_pre: Tensor
    heads: Tensor
    attn_out: Tensor
    mid: Tensor
    mlp_out: Tensor
    keys: Tensor
    values: Tensor


def leaving(parts: BlockParts, mid: Tensor, mlp_out: Tensor) -> Tensor:
    """The stream that leaves a block after attention gave `mid` (k, n, p, d); takes `mid` over.

    Args:
        parts: the block.
        mid: the stream with the attention's branch.
        mlp_out: of the base run, (n, p, d): the MLP's where it works beside the attention.
    """
    if parts.order == "parallel":
        return mid + parts.mlp_scale(mlp_out.clone())
    return add_mlp(parts, mid)


def _attention(anatomy: Anatomy, parts: BlockParts, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=None if parts.score_bias is None else parts.score_bias(),
        is_causal=anatomy.causal,
        scale=parts.softmax_scale,
    )


def run_block(
    anatomy: Anatomy, layer: int, stream: Tensor, rotation: Rotation | None
) -> tuple[BlockRun, Tensor]:
    """Run one block on a base stream (n, t, d) and keep its parts; also the next stream."""
    parts = anatomy.blocks[layer]
    q, k, v = parts.qkv(parts.attn_norm(stream))
    q, k = parts.rotated(q, k, rotation)
    z = _attention(anatomy, parts, q, k, v)
    heads = z.transpose(1, 2).flatten(-2)
    attn_out = parts.proj(heads)
    # LayerScale may work in place, so it gets its own copy.
    mid = stream + parts.attn_scale(attn_out.clone())
    mlp_out = parts.mlp(parts.mlp_norm(stream if parts.order == "parallel" else mid))
    following = mid + parts.mlp_scale(mlp_out.clone())
    return BlockRun(stream, heads, attn_out, mid, mlp_out, k, v), following


class LastQuery:
    """Attention of one query in the last block without projecting any key or value.

    q (W_k x) = (W_k' q) x and sum p (W_v x) = W_v (sum p x), so both projections move to the one
    query; the keys' bias shifts all scores alike and drops out of the softmax.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self.parts = parts = anatomy.blocks[-1]
        weight = parts.proj.weight if hasattr(parts.proj, "weight") else None
        like = weight if isinstance(weight, Tensor) else next(parts.block.parameters())
        eye = torch.eye(anatomy.d_model, dtype=like.dtype, device=like.device)[None]
        zero = parts.qkv(torch.zeros_like(eye[:, :1]))
        self.q_bias, _, self.v_bias = (part[0, :, 0] for part in zero)
        full = [part[0] - origin[0] for part, origin in zip(parts.qkv(eye), zero, strict=True)]
        self.w_q, self.w_k, self.w_v = (weight.contiguous() for weight in full)

    def __call__(self, stream: Tensor, row: int, before: Tensor | None) -> Tensor:
        """Final residual row (j, n, 1, d) of streams (j, n, r, d).

        Args:
            stream: input of the last block.
            row: the query, counted within the stream.
            before: normed rows of the base run before the stream's first, (n, s, d), or None.
        """
        r = stream.shape[2]
        normed = self.parts.attn_norm(stream)
        query = torch.einsum("jnd,hde->jnhe", normed[:, :, row], self.w_q) + self.q_bias
        key = torch.einsum("jnhe,hde->jnhd", query * self.parts.softmax_scale, self.w_k)
        scores = key @ normed.transpose(-2, -1)
        if before is not None:
            scores = torch.cat([key @ before.transpose(-2, -1), scores], dim=-1)
        weights = F.softmax(scores, dim=-1)
        mixed = weights[..., -r:] @ normed
        if before is not None:
            mixed += weights[..., :-r] @ before
        heads = torch.einsum("jnhd,hde->jnhe", mixed, self.w_v) + self.v_bias
        mid = stream[:, :, row] + self.parts.attn_scale(self.parts.proj(heads.flatten(-2)))
        return add_mlp(self.parts, mid).unsqueeze(2)


def last_query(anatomy: Anatomy) -> LastQuery | None:
    """The one-query attention of the last block, where only linear maps make its queries."""
    parts = anatomy.blocks[-1]
    if parts.order != "sequential":
        return None

    def qkv(rows: Tensor) -> Tensor:
        return torch.cat([part[0].transpose(0, 1).flatten(1) for part in parts.qkv(rows[None])], 1)

    like = next(parts.block.parameters())
    linear = parts.linear_qkv and is_linear(qkv, anatomy.d_model, like)
    return LastQuery(anatomy) if linear else None


class Streams:
    """All streams under way: many small ones packed by their first row, large ones as they came.

    Args:
        anatomy: of the model.
        n: examples.
        t: tokens.
        rotation: angles of rotary positions, (t, width), if the model has any.
    """

    def __init__(self, anatomy: Anatomy, n: int, t: int, rotation: Rotation | None) -> None:
        self.anatomy, self.n, self.t, self.rotation = anatomy, n, t, rotation
        self.large: list[tuple[int, list[int], Tensor]] = []
        self.jobs: dict[int, list[int]] = {}
        self.groups: dict[int, list[Tensor]] = {}

    def join(self, start: int, jobs: list[int], streams: Tensor) -> None:
        """Add streams (len(jobs), n, t - start, d) that begin at row `start`; taken over."""
        if streams.numel() >= row_limit(streams.device) * self.anatomy.d_model:
            self.large.append((start, jobs, streams))  # fills products alone: no need to copy
            return
        self.jobs.setdefault(start, []).extend(jobs)
        self.groups.setdefault(start, []).append(streams)

    def _pack(self) -> Tensor:
        d = self.anatomy.d_model
        pieces: list[Tensor] = []
        for start in sorted(self.groups):
            pieces += [piece.reshape(-1, d) for piece in self.groups[start]]
        flat = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
        offset = 0
        for start in sorted(self.groups):
            count = len(self.jobs[start]) * self.n * (self.t - start)
            view = flat[offset : offset + count].view(-1, self.n, self.t - start, d)
            self.groups[start], offset = [view], offset + count
        return flat

    def _matrices(self) -> list[tuple[Tensor, list[tuple[int, int]]]]:
        """All rows (m, d), and the (start, streams) that follow each other in them."""
        found = [(piece.flatten(0, 2), [(start, len(jobs))]) for start, jobs, piece in self.large]
        if self.groups:
            order = [(start, len(self.jobs[start])) for start in sorted(self.groups)]
            found.append((self._pack(), order))
        return found

    def _packets(
        self, order: list[tuple[int, int]], limit: int
    ) -> Iterator[list[tuple[int, int, int, int]]]:
        """Shapes (start, streams, n, rows) in their order, at most `limit` rows a packet."""
        packet: list[tuple[int, int, int, int]] = []
        room = limit
        for start, count in order:
            rows = self.t - start
            while count:
                take = min(count, room // (self.n * rows))
                if take == 0 and packet:
                    yield packet
                    packet, room = [], limit
                    continue
                take = max(take, 1)
                packet.append((start, take, self.n, rows))
                count, room = count - take, room - take * self.n * rows
        if packet:
            yield packet

    def step(self, layer: int, base: BlockRun | None) -> None:
        """Carry every stream through one block; `base` holds the rows before their first."""
        matrices = self._matrices()
        with packed(self.anatomy.blocks[layer].block, sum(len(flat) for flat, _ in matrices)):
            for flat, order in matrices:
                offset = 0
                for shapes in self._packets(order, row_limit(flat.device)):
                    count = sum(j * n * r for _, j, n, r in shapes)
                    self._advance(layer, flat[offset : offset + count], shapes, base)
                    offset += count

    def _advance(
        self,
        layer: int,
        rows: Tensor,
        shapes: list[tuple[int, int, int, int]],
        base: BlockRun | None,
    ) -> None:
        parts = self.anatomy.blocks[layer]
        qkv = [part[0] for part in parts.qkv(parts.attn_norm(rows)[None])]
        heads: list[Tensor] = []
        offset = 0
        for start, j, n, r in shapes:
            part = slice(offset, offset + j * n * r)
            q, k, v = (x[:, part].unflatten(1, (j, n, r)) for x in qkv)
            if self.rotation is not None:
                own = tuple(angles[start:] for angles in self.rotation)
                q, k = parts.rotated(q, k, own)
            heads.append(self._attend(parts, (q, k, v), start, base).flatten(-2).flatten(0, 2))
            offset = part.stop
        written = parts.attn_scale(parts.proj(torch.cat(heads) if len(heads) > 1 else heads[0]))
        if parts.order == "parallel":
            written = written + parts.mlp_scale(parts.mlp(parts.mlp_norm(rows)))
            rows += written
        else:
            rows += written
            rows += parts.mlp_scale(parts.mlp(parts.mlp_norm(rows)))

    def _attend(
        self,
        parts: BlockParts,
        qkv: tuple[Tensor, Tensor, Tensor],
        start: int,
        base: BlockRun | None,
    ) -> Tensor:
        """Head outputs (j, n, r, heads, d_head); queries, keys, values (heads, j, n, r, d_head)."""
        h, j, n, r, e = qkv[0].shape
        if start == 0:
            q, k, v = (x.permute(1, 2, 0, 3, 4).flatten(0, 1) for x in qkv)
            z = _attention(self.anatomy, parts, q, k, v)
            return z.unflatten(0, (j, n)).transpose(2, 3)
        assert base is not None, "streams that start later need the base run's keys and values"
        q, k, v = (x.permute(2, 0, 1, 3, 4) for x in qkv)
        q = (q * parts.softmax_scale).reshape(n, h, j * r, e)
        earlier = (q @ base.keys[:, :, :start].transpose(-2, -1)).view(n, h, j, r, start)
        own = q.view(n, h, j, r, e) @ k.transpose(-2, -1)
        later = torch.ones(r, r, dtype=torch.bool, device=own.device).triu(1)
        scores = torch.cat([earlier, own.masked_fill(later, -torch.inf)], dim=-1)
        weights = F.softmax(scores, dim=-1)
        z = weights[..., start:] @ v
        z += (weights[..., :start].flatten(2, 3) @ base.values[:, :, :start]).view_as(z)
        return z.permute(2, 0, 3, 1, 4)

    def finish(
        self, row: int | None, base: BlockRun, last: LastQuery | None, base_final: Tensor
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Carry every stream through the last block.

        Args:
            row: the one token wanted, or None for all of them.
            base: the base run of the last block.
            last: the one-query attention; None where a norm of queries or keys forbids it.
            base_final: the base run's final stream, (n, t, d).

        Yields:
            Job numbers and their final streams, (jobs, n, 1 or t, d).
        """
        pieces = self._finished(row, base, last, base_final)
        if row is None or not (self.large or self.groups):
            yield from pieces
            return
        found = list(pieces)
        jobs = [job for some, _ in found for job in some]
        final = torch.cat([last for _, last in found])
        take = max(1, _READ_ROWS // self.n)
        for a in range(0, len(jobs), take):
            yield jobs[a : a + take], final[a : a + take]

    def _finished(
        self, row: int | None, base: BlockRun, last: LastQuery | None, base_final: Tensor
    ) -> Iterator[tuple[list[int], Tensor]]:
        """What `finish` yields, in the pieces that it is computed in."""
        if row is None or last is None:
            self.step(self.anatomy.n_layers - 1, base)
        else:
            if self.groups:
                self._pack()
            normed = last.parts.attn_norm(base.resid_pre)
        small = [(start, self.jobs[start], self.groups[start][0]) for start in sorted(self.groups)]
        for start, jobs, streams in [*self.large, *small]:
            take = max(1, row_limit(streams.device) // (self.n * (self.t - start)))
            for a in range(0, len(jobs), take):
                stream = streams[a : a + take]
                if row is None:
                    before = base_final[:, :start].expand(len(stream), -1, -1, -1)
                    final = torch.cat([before, stream], dim=2)
                elif last is None:
                    final = stream[:, :, row - start : row - start + 1]
                else:
                    final = last(stream, row - start, normed[:, :start] if start else None)
                yield jobs[a : a + take], final
