"""A block's output with each of its heads taken away alone, from corrections of low rank."""

from typing import cast

import torch
from torch import Tensor, nn

from patchwork.interventions.fast_path import kernels
from patchwork.interventions.fast_path.following import NoFastPath
from patchwork.interventions.fast_path.streams import add_mlp, row_limit
from patchwork.models.sites import Anatomy, BlockParts

# How many times narrower a row may become when a head is taken off it: its rounding error is that
# of the wide row.
_NARROWING = {torch.float32: 32.0, torch.float64: 1e5}


class HeadRemoval:
    """What the heads of one block write, and what its MLP makes of a stream without one of them.

    Such a stream is the clean one less W_O z, of rank d_head. LayerNorm is linear but for the
    scale of each row, so the MLP's first layer gives what it gives for the clean stream less
    (W_1 W_O) z, each row rescaled: d_head columns are multiplied instead of d_model.

    Args:
        anatomy: of a pre-norm model.
        layer: the block.
    """

    def __init__(self, anatomy: Anatomy, layer: int) -> None:
        self.parts = parts = anatomy.blocks[layer]
        width = anatomy.n_heads * anatomy.d_head
        require_linear(parts.proj, width)
        weight = kernels.output_weight(parts.proj, width).unflatten(0, (anatomy.n_heads, -1))
        self.weight = parts.attn_scale(weight.clone())  # (heads, d_head, d)
        beside = parts.order == "parallel"
        self.into_hidden = None if beside else _into_hidden(parts, self.weight)

    def __call__(self, mid: Tensor, removed: list[Tensor]) -> Tensor:
        """Streams that leave the block.

        Args:
            mid: the clean stream after attention, (n, t, d); of a block whose MLP works beside
                the attention, the clean stream after both.
            removed: of each baseline what is taken from every head's output, (n, t, heads, d_head).

        Returns:
            (baselines x heads, n, t, d), baseline by baseline.

        Raises:
            NoFastPath: if a head wrote so much that what is left of a row is its rounding error.
        """
        n_heads = len(self.weight)
        streams = mid.new_empty(len(removed) * n_heads, *mid.shape)
        flat = mid.flatten(0, 1)
        for some, z in zip(streams.flatten(1, 2).split(n_heads), removed, strict=True):
            written = z.flatten(0, 1).transpose(0, 1)
            torch.baddbmm(flat[None], written, self.weight, alpha=-1, out=some)
        # Few rows are not worth the corrections.
        if self.into_hidden is None or mid.shape[1] == 1:
            _check_narrowing(
                _rstd(streams.flatten(0, -2)).view(len(streams), -1) / _rstd(flat)[:, 0]
            )
            return streams if self.parts.order == "parallel" else add_mlp(self.parts, streams)
        self._add_mlp(flat, streams.flatten(1, 2), removed)
        return streams

    def _add_mlp(self, mid: Tensor, streams: Tensor, removed: list[Tensor]) -> None:
        """Add the MLP's branch to streams (jobs, rows, d) in place."""
        parts, into_hidden = self.parts, self.into_hidden
        assert into_hidden is not None
        assert parts.mlp_first is not None
        assert parts.mlp_rest is not None
        # Of a row without variance the norm leaves its shift.
        origin = parts.mlp_first(parts.mlp_norm(torch.zeros_like(mid[:1])))
        scale = _rstd(mid, parts.mlp_norm)
        centred = (parts.mlp_first(parts.mlp_norm(mid)) - origin) / scale
        heads = [z[..., h, :].flatten(0, 1) for z in removed for h in range(len(into_hidden))]
        widest = []
        for job, (stream, z) in enumerate(zip(streams, heads, strict=True)):
            weight = into_hidden[job % len(into_hidden)]
            pieces = (x.split(row_limit(mid.device)) for x in (stream, z, centred, scale))
            for rows, part, clean, clean_scale in zip(*pieces, strict=True):
                hidden = torch.addmm(clean, part, weight, alpha=-1)
                own_scale = _rstd(rows, parts.mlp_norm)
                widest.append((own_scale / clean_scale).max())
                torch.addcmul(origin, hidden, own_scale, out=hidden)
                rows += parts.mlp_scale(parts.mlp_rest(hidden))
        _check_narrowing(torch.stack(widest))


def _check_narrowing(ratios: Tensor) -> None:
    if not float(ratios.max()) <= _NARROWING[ratios.dtype]:
        raise NoFastPath("a head wrote most of the stream: taking it off again would lose digits")


def require_linear(proj: nn.Module, width: int) -> None:
    """Leave for the plain path if a projection is no linear map of the heads.

    Raises:
        NoFastPath: if it is not.
    """
    if not kernels.is_linear(proj, width, kernels.weight_of(proj)):
        raise NoFastPath("a projection of the heads that is not linear")


def _into_hidden(parts: BlockParts, weight: Tensor) -> Tensor | None:
    """What the MLP's first layer makes of head outputs, (heads, d_head, hidden), if it is linear.

    The mean is taken off and the norm's gain multiplied in; the scale of each row is left out.
    """
    norm, first = parts.mlp_norm, parts.mlp_first
    d = weight.shape[-1]
    if (
        first is None
        or not kernels.is_layer_norm(norm, weight)
        or not kernels.is_linear(first, d, weight)
    ):
        return None
    written = weight - weight.mean(-1, keepdim=True)
    if norm.weight is not None:
        written = written * cast(Tensor, norm.weight)
    return first(written) - first(torch.zeros_like(written[:1, :1]))


def _rstd(rows: Tensor, norm: nn.Module | None = None) -> Tensor:
    """One over the standard deviation of each row, (m, 1), as a LayerNorm takes it."""
    eps = norm.eps if isinstance(norm, nn.LayerNorm) else 1e-12
    return torch.native_layer_norm(rows, [rows.shape[-1]], None, None, eps)[2]
