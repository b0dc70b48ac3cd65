"""What the table gives of a transformer: its parts, each the model's own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Angles of rotary positions as the model computes them, each with tokens along its axis -2.
Rotation = tuple[Tensor, ...]


@dataclass(frozen=True)
class BlockParts:
    """The parts of one block, each the model's own module or a function of them.

    Attributes:
        block: maps the stream to the next block's.
        attn_norm: before the attention (`post`: behind it).
        attn: the module that makes queries, keys and values and is given the mask.
        qkv: maps the normed stream (n, t, d) to queries, keys and values (n, heads, t, d_head);
            keys and values that several heads share are repeated.
        proj: output projection of the attention.
        attn_scale: LayerScale or identity; it may work in place.
        mlp_norm: before the MLP (`post`: behind it).
        mlp: the MLP's branch after the norm.
        mlp_last: its last linear layer.
        mlp_scale: LayerScale or identity; it may work in place.
        softmax_scale: factor of the scores.
        linear_qkv: whether nothing but a linear map makes queries, keys and values: no norm of
            queries or keys, no rotation.
        mlp_first: first layer, where the MLP is a linear layer and what follows.
        mlp_rest: what follows it.
        order: `sequential` (pre-norm, attention then MLP), `parallel` (pre-norm, both from the
            same stream) or `post` (norms behind attention and MLP).
        rotate: turns queries or keys (..., t, d_head) by their tokens' angles (..., t, width).
        window: how many tokens, itself included, a token sees at most; None is all.
        score_bias: gives what is added to the scores, broadcastable to (n, heads, t, t).
    """

    block: nn.Module
    attn_norm: nn.Module
    attn: nn.Module
    qkv: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    proj: nn.Module
    attn_scale: Callable[[Tensor], Tensor]
    mlp_norm: nn.Module
    mlp: Callable[[Tensor], Tensor]
    mlp_last: nn.Module
    mlp_scale: Callable[[Tensor], Tensor]
    softmax_scale: float
    linear_qkv: bool = True
    mlp_first: nn.Module | None = None
    mlp_rest: Callable[[Tensor], Tensor] | None = None
    order: str = "sequential"
    rotate: Callable[[Tensor, Rotation], Tensor] | None = None
    window: int | None = None
    score_bias: Callable[[], Tensor] | None = None

    def rotated(self, q: Tensor, k: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor]:
        """Queries and keys turned by rotary positions, where the model has them."""
        if self.rotate is None or rotation is None:
            return q, k
        return self.rotate(q, rotation), self.rotate(k, rotation)


@dataclass(frozen=True)
class Anatomy:
    """Where the parts of one model are.

    Args:
        family: name of the entry of the architecture table.
        trunk: the module that holds embedding, blocks and final norm.
        blocks: parts of each block, first to last.
        n_prefix: tokens before the first patch (CLS, registers); 0 for text.
        causal: whether a token attends only to itself and to earlier ones.
        lora_targets: names of the projections that LoRA adapts, as peft expects them.
        final_norm: between the last block and a text model's unembedding, if nothing else is.
    """

    family: str
    trunk: nn.Module
    blocks: tuple[BlockParts, ...]
    n_heads: int
    d_head: int
    d_model: int
    d_hidden: int
    n_prefix: int
    causal: bool
    lora_targets: tuple[str, ...]
    final_norm: nn.Module | None = None

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)


def heads(parts: Iterable[Tensor], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (n, t, d) cut into heads, (n, heads, t, d_head).

    Keys and values of fewer heads are repeated, each for the queries that share them.
    """
    q, k, v = parts
    d_head = q.shape[-1] // n_heads
    cut = [x.unflatten(-1, (-1, d_head)).transpose(-3, -2) for x in (q, k, v)]
    q, k, v = (x.repeat_interleave(n_heads // x.shape[-3], -3) for x in cut)
    return q, k, v


def rotate_half(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotary positions that turn the first half of the leading columns against the second.

    Tokens before those that have angles (CLS, registers) stay.
    """
    cos, sin = rotation
    (t, width), n_before = cos.shape[-2:], x.shape[-2] - cos.shape[-2]
    before, patches = x.split([n_before, t], dim=-2)
    turned, rest = patches.split([width, x.shape[-1] - width], dim=-1)
    one, other = turned.chunk(2, dim=-1)
    turned = turned * cos + torch.cat([-other, one], dim=-1) * sin
    turned = torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned
    return torch.cat([before, turned], dim=-2) if n_before else turned


def part(module: Any, path: str) -> Any:
    """The part of a module at a path of names; the module itself for an empty path."""
    for name in filter(None, path.split(".")):
        module = getattr(module, name)
    return module


def width_in(linear: Any) -> int:
    """Input width of a linear module, also of GPT-2's Conv1D and of a LoRA wrapper."""
    base = getattr(linear, "base_layer", linear)
    return base.nx if hasattr(base, "nx") else base.in_features


def refuse(what: str, missing: str) -> ValueError:
    """The one line that says why a model is not supported."""
    return ValueError(f"model: {what} is not supported: {missing}")
