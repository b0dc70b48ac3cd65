"""timm's transformers: blocks are known by their classes, names do not say what is computed."""

from typing import Any

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn

from patchwork.models.families.parts import Anatomy, BlockParts, heads, refuse, width_in


def _block(block: Any) -> BlockParts:
    if type(block) is not TimmBlock:
        raise refuse(
            f"timm block {type(block).__module__}.{type(block).__name__}",
            "allowed is the pre-norm Block of timm.models.vision_transformer with one Attention",
        )
    attn = block.attn
    if type(attn) is not Attention:
        raise refuse(f"timm attention {type(attn).__name__}", "allowed is Attention")
    if not isinstance(attn.norm, nn.Identity):
        raise refuse("timm Attention with scale_norm", "it mixes heads before the projection")
    if attn.gate is not None:
        raise refuse("timm Attention with a gate", "it acts between heads and projection")

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = heads(attn.qkv(x).chunk(3, dim=-1), attn.num_heads)
        return attn.q_norm(q), attn.k_norm(k), v

    last = getattr(block.mlp, "fc2", None)
    if last is None:
        raise refuse(f"timm MLP {type(block.mlp).__name__}", "it has no fc2")
    mlp = block.mlp if type(block.mlp) is Mlp else None
    return BlockParts(
        block, block.norm1, attn, qkv, attn.proj, block.ls1,
        block.norm2, block.mlp, last, block.ls2, attn.scale,
        isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity),
        mlp and mlp.fc1, mlp and (lambda hidden: mlp.fc2(mlp.norm(mlp.act(hidden)))),
    )  # fmt: skip


def vit(trunk: Any) -> Anatomy:
    """A VisionTransformer of timm."""
    blocks = tuple(_block(b) for b in trunk.blocks)
    attn: Any = blocks[0].attn
    return Anatomy(
        "timm ViT", trunk, blocks, attn.num_heads, attn.head_dim, trunk.embed_dim,
        width_in(blocks[0].mlp_last), trunk.num_prefix_tokens, False, ("qkv", "proj"),
    )  # fmt: skip
