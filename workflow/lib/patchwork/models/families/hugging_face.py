"""Hugging Face transformers: one row of names for each architecture."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

from patchwork.models.families.parts import (
    Anatomy,
    BlockParts,
    heads,
    part,
    refuse,
    rotate_half,
    width_in,
)


@dataclass(frozen=True)
class Row:
    """Where an architecture keeps its parts, as paths of names.

    Attributes:
        n_prefix: of each model type, tokens before the first patch; a name is read from the
            configuration and CLS added.
        blocks: from the trunk to the list of blocks.
        attn: from a block to the module that is given the mask; so are the following.
        qkv: projections of queries, keys and values; of one, head by head.
        proj: output projection of the attention.
        norms: of attention and MLP.
        mlp: first linear layer, activation, last linear layer; of a gated MLP they are named as in
            Llama.
        scale: attribute of `attn` that multiplies the scores; None where nothing does.
        layer_scales: of attention and MLP.
        final_norm: from the trunk to the norm before the unembedding; None for images.
        rotary: whether positions turn queries and keys.
        order: as in `BlockParts`; read from a block where it varies.
        window: as in `BlockParts`, read from a block.
        modules: paths from the trunk by which it is recognised.
    """

    n_prefix: dict[str, int | str]
    modules: tuple[str, ...]
    attn: str
    qkv: tuple[str, ...]
    proj: str
    norms: tuple[str, str]
    mlp: tuple[str, str, str]
    blocks: str = "layers"
    scale: str | None = "scaling"
    layer_scales: tuple[str, str] | None = None
    final_norm: str | None = None
    rotary: bool = False
    causal: bool = False
    order: Callable[[Any], str] = lambda block: "sequential"
    window: Callable[[Any], int | None] = lambda block: None


_Q_K_V = ("q_proj", "k_proj", "v_proj")
_VIT_MLP = ("mlp.fc1", "mlp.activation_fn", "mlp.fc2")


def _under(path: str, names: tuple[str, ...] = _Q_K_V) -> tuple[str, ...]:
    return tuple(f"{path}.{name}" for name in names)


def _local_window(block: Any) -> int | None:
    attn = block.attn
    return attn.attention.config.window_size if attn.attention_type == "local" else None


ROWS: dict[str, Row] = {
    # Model types whose attention, MLP and layer are those of ViT line by line. ViT-MAE's are too,
    # but it drops and shuffles patches at random in every pass.
    "Hugging Face ViT": Row(
        {"vit": 1, "vit_msn": 1, "deit": 2, "ijepa": 0},
        ("embeddings", "layers.0.attention.q_proj", "layers.0.layernorm_before"),
        "attention", _under("attention"), "attention.o_proj",
        ("layernorm_before", "layernorm_after"), _VIT_MLP,
    ),
    "DINOv2": Row(
        {"dinov2": 1, "dinov2_with_registers": "num_register_tokens"},
        ("embeddings", "encoder.layer.0.attention.q_proj", "encoder.layer.0.layer_scale1"),
        "attention", _under("attention"), "attention.o_proj", ("norm1", "norm2"), _VIT_MLP,
        blocks="encoder.layer", layer_scales=("layer_scale1", "layer_scale2"),
    ),
    "DINOv3": Row(
        {"dinov3_vit": "num_register_tokens"},
        ("embeddings", "rope_embeddings", "model.layer.0.attention.q_proj"),
        "attention", _under("attention"), "attention.o_proj", ("norm1", "norm2"),
        ("mlp.up_proj", "mlp.act_fn", "mlp.down_proj"), blocks="model.layer",
        layer_scales=("layer_scale1", "layer_scale2"), rotary=True,
    ),
    "CLIP and SigLIP vision": Row(
        {"clip_vision_model": 1, "siglip_vision_model": 0},
        ("embeddings.patch_embedding", "encoder.layers.0.self_attn.q_proj", "post_layernorm"),
        "self_attn", _under("self_attn"), "self_attn.out_proj", ("layer_norm1", "layer_norm2"),
        _VIT_MLP, blocks="encoder.layers", scale="scale",
    ),
    "Llama": Row(
        {"llama": 0, "mistral": 0, "qwen2": 0, "qwen3": 0},
        ("embed_tokens", "rotary_emb", "layers.0.self_attn.o_proj", "layers.0.mlp.down_proj"),
        "self_attn", _under("self_attn"), "self_attn.o_proj",
        ("input_layernorm", "post_attention_layernorm"),
        ("mlp.gate_proj", "mlp.act_fn", "mlp.down_proj"),
        final_norm="norm", rotary=True, causal=True,
    ),
    "GPT-NeoX": Row(
        {"gpt_neox": 0},
        ("embed_in", "layers.0.attention.query_key_value", "final_layer_norm"),
        "attention", ("attention.query_key_value",), "attention.dense",
        ("input_layernorm", "post_attention_layernorm"),
        ("mlp.dense_h_to_4h", "mlp.act", "mlp.dense_4h_to_h"),
        final_norm="final_layer_norm", rotary=True, causal=True,
        order=lambda block: "parallel" if block.use_parallel_residual else "sequential",
    ),
    "OPT": Row(
        {"opt": 0},
        ("embed_tokens", "embed_positions", "layers.0.self_attn_layer_norm", "layers.0.fc1"),
        "self_attn", _under("self_attn"), "self_attn.out_proj",
        ("self_attn_layer_norm", "final_layer_norm"), ("fc1", "activation_fn", "fc2"),
        final_norm="final_layer_norm", causal=True,
        order=lambda block: "sequential" if block.do_layer_norm_before else "post",
    ),
    "GPT-Neo": Row(
        {"gpt_neo": 0},
        ("wte", "wpe", "h.0.attn.attention.q_proj"),
        "attn", _under("attn.attention"), "attn.attention.out_proj", ("ln_1", "ln_2"),
        ("mlp.c_fc", "mlp.act", "mlp.c_proj"), blocks="h", scale=None, final_norm="ln_f",
        causal=True,
        window=_local_window,
    ),
    "BERT": Row(
        {"bert": 0},
        ("embeddings.word_embeddings", "encoder.layer.0.attention.self.query"),
        "attention.self", _under("attention.self", ("query", "key", "value")),
        "attention.output.dense", ("attention.output.LayerNorm", "output.LayerNorm"),
        ("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense"),
        blocks="encoder.layer", order=lambda block: "post",
    ),
}  # fmt: skip


def read(family: str, trunk: Any) -> Anatomy:
    """The anatomy of a trunk whose model type a row names."""
    row, config = ROWS[family], trunk.config
    if getattr(config, "is_decoder", False) and not row.causal:
        raise refuse(f"{family} as a decoder", "its row of the table attends both ways")
    n_heads = config.num_attention_heads
    blocks = tuple(_block(row, block, n_heads) for block in part(trunk, row.blocks))
    prefix = row.n_prefix[config.model_type]
    targets = {path.split(".")[-1] for path in (*row.qkv, row.proj)}
    final_norm = None if row.final_norm is None else part(trunk, row.final_norm)
    if getattr(trunk, "project_out", None) is not None:
        final_norm = None  # of some OPT models a projection follows it
    return Anatomy(
        family, trunk, blocks, n_heads, width_in(blocks[0].proj) // n_heads, config.hidden_size,
        width_in(blocks[0].mlp_last),
        prefix if isinstance(prefix, int) else 1 + getattr(config, prefix),
        row.causal, tuple(sorted(targets)), final_norm,
    )  # fmt: skip


def _block(row: Row, block: Any, n_heads: int) -> BlockParts:
    attn, projections = part(block, row.attn), [part(block, path) for path in row.qkv]
    norms = [getattr(attn, name, None) for name in ("q_norm", "k_norm")]

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if len(projections) == 1:  # the three of each head side by side
            fused = projections[0](x).unflatten(-1, (n_heads, -1)).transpose(-3, -2)
            q, k, v = fused.chunk(3, dim=-1)
        else:
            q, k, v = heads((p(x) for p in projections), n_heads)
        q, k = (x if norm is None else norm(x) for x, norm in zip((q, k), norms, strict=True))
        return q, k, v

    first, activation, last = row.mlp
    mlp: Any = getattr(block, "mlp", None)
    if hasattr(mlp, "gate_proj"):
        return_mlp: dict[str, Any] = {"mlp": mlp, "mlp_last": mlp.down_proj}
    else:
        into, act, out = (part(block, path) for path in (first, activation, last))

        def rest(hidden: Tensor) -> Tensor:
            return out(act(hidden))

        return_mlp = {
            "mlp": lambda x: rest(into(x)), "mlp_last": out, "mlp_first": into, "mlp_rest": rest,
        }  # fmt: skip
    attn_scale, mlp_scale = (
        (nn.Identity(), nn.Identity())
        if row.layer_scales is None
        else (part(block, path) for path in row.layer_scales)
    )
    return BlockParts(
        block=block, attn_norm=part(block, row.norms[0]), attn=attn, qkv=qkv,
        proj=part(block, row.proj), attn_scale=attn_scale, mlp_norm=part(block, row.norms[1]),
        mlp_scale=mlp_scale, softmax_scale=1.0 if row.scale is None else getattr(attn, row.scale),
        linear_qkv=not row.rotary and norms == [None, None], order=row.order(block),
        rotate=rotate_half if row.rotary else None, window=row.window(block), **return_mlp,
    )  # fmt: skip


def old_vit(trunk: Any) -> Anatomy:
    """A ViT with the module names of Transformers before version 5."""
    blocks = tuple(_old_vit_block(b) for b in trunk.encoder.layer)
    n_heads = trunk.config.num_attention_heads
    return Anatomy(
        "Hugging Face ViT (old module names)", trunk, blocks, n_heads,
        width_in(blocks[0].proj) // n_heads, trunk.config.hidden_size,
        width_in(blocks[0].mlp_last), 1, False, ("query", "key", "value", "dense"),
    )  # fmt: skip


def _old_vit_block(layer: Any) -> BlockParts:
    attn, core = layer.attention, layer.attention.attention

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return heads((p(x) for p in (core.query, core.key, core.value)), core.num_attention_heads)

    return BlockParts(
        layer, layer.layernorm_before, attn, qkv, attn.output.dense, nn.Identity(),
        layer.layernorm_after, lambda x: layer.output.dense(layer.intermediate(x)),
        layer.output.dense, nn.Identity(), core.attention_head_size**-0.5,
    )  # fmt: skip


def gpt2(trunk: Any) -> Anatomy:
    """GPT-2, whose linear layers are of a class of their own."""
    blocks = tuple(_gpt2_block(b) for b in trunk.h)
    attn: Any = blocks[0].attn
    return Anatomy(
        "GPT-2", trunk, blocks, attn.num_heads, attn.head_dim, trunk.embed_dim,
        width_in(blocks[0].mlp_last), 0, True, ("c_attn", "c_proj"), trunk.ln_f,
    )  # fmt: skip


def _gpt2_block(block: Any) -> BlockParts:
    attn = block.attn

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return heads(attn.c_attn(x).chunk(3, dim=-1), attn.num_heads)

    def rest(hidden: Tensor) -> Tensor:
        if not isinstance(block.mlp.act, NewGELUActivation):
            return block.mlp.c_proj(block.mlp.act(hidden))
        # The same function in one kernel; composed of eight it costs a fifth of a sweep.
        return block.mlp.c_proj(F.gelu(hidden, approximate="tanh"))

    if hasattr(block, "crossattention"):
        raise refuse("GPT-2 with cross-attention", "a second attention shares the block")
    return BlockParts(
        block, block.ln_1, attn, qkv, attn.c_proj, nn.Identity(),
        block.ln_2, lambda x: rest(block.mlp.c_fc(x)), block.mlp.c_proj, nn.Identity(),
        attn.scaling, mlp_first=block.mlp.c_fc, mlp_rest=rest,
    )  # fmt: skip
