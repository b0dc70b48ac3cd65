"""timm's transformers: blocks are known by their classes, names do not say what is computed."""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import Mlp, apply_rot_embed_cat
from timm.layers.attention import Attention, AttentionRope
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Block as BeitBlock
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from patchwork.models.families.parts import (
    Anatomy,
    BlockParts,
    Rotation,
    heads,
    refuse,
    width_in,
)

# Pre-norm blocks with one attention and one MLP, and the attentions that they may hold.
_BLOCKS = (Block, EvaBlock, BeitBlock)
_ATTENTIONS = (Attention, EvaAttention, AttentionRope, BeitAttention)


def vit(trunk: Any) -> Anatomy:
    """A transformer of timm with `patch_embed` and `blocks`."""
    blocks = tuple(_block(b) for b in trunk.blocks)
    attn: Any = blocks[0].attn
    fused = getattr(attn, "qkv", None) is not None
    return Anatomy(
        "timm ViT", trunk, blocks, attn.num_heads, width_in(attn.proj) // attn.num_heads,
        trunk.embed_dim, width_in(blocks[0].mlp_last), trunk.num_prefix_tokens, False,
        ("qkv", "proj") if fused else ("q_proj", "k_proj", "v_proj", "proj"),
    )  # fmt: skip


def _block(block: Any) -> BlockParts:
    if type(block) not in _BLOCKS:
        raise refuse(
            f"timm block {type(block).__module__}.{type(block).__name__}",
            "allowed is the pre-norm block of a ViT, EVA or BEiT with one attention",
        )
    attn = block.attn
    if type(attn) not in _ATTENTIONS:
        allowed = ", ".join(dict.fromkeys(kind.__name__ for kind in _ATTENTIONS))
        raise refuse(f"timm attention {type(attn).__name__}", f"allowed is {allowed}")
    if not isinstance(getattr(attn, "norm", nn.Identity()), nn.Identity):
        raise refuse("timm Attention with scale_norm", "it mixes heads before the projection")
    if getattr(attn, "gate", None) is not None:
        raise refuse("timm Attention with a gate", "it acts between heads and projection")
    last = getattr(block.mlp, "fc2", None)
    if last is None:
        raise refuse(f"timm MLP {type(block.mlp).__name__}", "it has no fc2")
    mlp = block.mlp if type(block.mlp) is Mlp else None
    norms = [getattr(attn, name, nn.Identity()) for name in ("q_norm", "k_norm")]
    plain = type(attn) is Attention and all(isinstance(norm, nn.Identity) for norm in norms)
    return BlockParts(
        block, block.norm1, attn, _qkv(attn, norms), attn.proj, _scale(block, 1),
        block.norm2, block.mlp, last, _scale(block, 2), attn.scale, plain,
        mlp and mlp.fc1, mlp and (lambda hidden: mlp.fc2(mlp.norm(mlp.act(hidden)))),
        rotate=_rotate(attn) if type(attn) in (EvaAttention, AttentionRope) else None,
        score_bias=getattr(attn, "_get_rel_pos_bias", None)
        if getattr(attn, "relative_position_bias_table", None) is not None else None,
    )  # fmt: skip


def _scale(block: Any, which: int) -> Callable[[Tensor], Tensor]:
    """LayerScale: a module of a ViT, a parameter or None of EVA and BEiT."""
    if type(block) is Block:
        return getattr(block, f"ls{which}")
    gamma = getattr(block, f"gamma_{which}")
    return nn.Identity() if gamma is None else lambda x: x * gamma


def _qkv(attn: Any, norms: list[nn.Module]) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    def projected(x: Tensor) -> Any:
        if attn.qkv is None:
            return (attn.q_proj(x), attn.k_proj(x), attn.v_proj(x))
        if getattr(attn, "q_bias", None) is None:
            return attn.qkv(x).chunk(3, dim=-1)
        bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
        fused = attn.qkv(x) + bias if attn.qkv_bias_separate else F.linear(x, attn.qkv.weight, bias)
        return fused.chunk(3, dim=-1)

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = heads(projected(x), attn.num_heads)
        return norms[0](q), norms[1](k), v

    return qkv


def _rotate(attn: Any) -> Callable[[Tensor, Rotation], Tensor]:
    n_prefix, half = attn.num_prefix_tokens, attn.rotate_half

    def rotate(x: Tensor, rotation: Rotation) -> Tensor:
        before, patches = x[..., :n_prefix, :], x[..., n_prefix:, :]
        return torch.cat([before, apply_rot_embed_cat(patches, rotation[0], half=half)], dim=-2)

    return rotate
