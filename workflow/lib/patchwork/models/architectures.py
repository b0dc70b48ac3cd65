"""The architecture table: finding the transformer in a model, and where its parts are.

Nothing else in the library knows an architecture. A trunk is recognised by the names of its
modules. Names alone do not say what is computed between them, so a timm trunk is checked by the
classes of its blocks and a Hugging Face trunk by its model type.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation


@dataclass(frozen=True)
class BlockParts:
    """The parts of one pre-norm block, each the model's own module or a function of them.

    `attn_scale` and `mlp_scale` are LayerScale or identity. `qkv` maps the normed stream
    (n, t, d) to queries, keys and values (n, heads, t, d_head); `linear_qkv` says that nothing
    but a linear map does so (no norm of queries and keys). Where the MLP is a linear layer and
    what follows, these are `mlp_first` and `mlp_rest`.
    """

    block: nn.Module
    attn_norm: nn.Module
    attn: nn.Module
    qkv: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    proj: nn.Module
    attn_scale: nn.Module
    mlp_norm: nn.Module
    mlp: Callable[[Tensor], Tensor]
    mlp_last: nn.Module
    mlp_scale: nn.Module
    softmax_scale: float
    linear_qkv: bool = True
    mlp_first: nn.Module | None = None
    mlp_rest: Callable[[Tensor], Tensor] | None = None


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

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)


def _heads(parts: Iterable[Tensor], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (n, t, d) cut into heads, (n, heads, t, d_head)."""
    q, k, v = (part.unflatten(-1, (n_heads, -1)).transpose(-3, -2) for part in parts)
    return q, k, v


def _refuse(what: str, missing: str) -> ValueError:
    return ValueError(f"model: {what} is not supported: {missing}")


def _timm_block(block: Any) -> BlockParts:
    if type(block) is not TimmBlock:
        raise _refuse(
            f"timm block {type(block).__module__}.{type(block).__name__}",
            "allowed is the pre-norm Block of timm.models.vision_transformer with one Attention",
        )
    attn = block.attn
    if type(attn) is not Attention:
        raise _refuse(f"timm attention {type(attn).__name__}", "allowed is Attention")
    if not isinstance(attn.norm, nn.Identity):
        raise _refuse("timm Attention with scale_norm", "it mixes heads before the projection")
    if attn.gate is not None:
        raise _refuse("timm Attention with a gate", "it acts between heads and projection")

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = _heads(attn.qkv(x).chunk(3, dim=-1), attn.num_heads)
        return attn.q_norm(q), attn.k_norm(k), v

    last = getattr(block.mlp, "fc2", None)
    if last is None:
        raise _refuse(f"timm MLP {type(block.mlp).__name__}", "it has no fc2")
    mlp = block.mlp if type(block.mlp) is Mlp else None
    return BlockParts(
        block, block.norm1, attn, qkv, attn.proj, block.ls1,
        block.norm2, block.mlp, last, block.ls2, attn.scale,
        isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity),
        mlp and mlp.fc1, mlp and (lambda hidden: mlp.fc2(mlp.norm(mlp.act(hidden)))),
    )  # fmt: skip


def _timm_vit(trunk: Any) -> Anatomy:
    blocks = tuple(_timm_block(b) for b in trunk.blocks)
    attn: Any = blocks[0].attn
    return Anatomy(
        "timm ViT", trunk, blocks, attn.num_heads, attn.head_dim, trunk.embed_dim,
        _width_in(blocks[0].mlp_last), trunk.num_prefix_tokens, False, ("qkv", "proj"),
    )  # fmt: skip


def _hf_vit_block(layer: Any) -> BlockParts:
    attn, n = layer.attention, layer.attention.num_attention_heads

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _heads((p(x) for p in (attn.q_proj, attn.k_proj, attn.v_proj)), n)

    return BlockParts(
        layer, layer.layernorm_before, attn, qkv, attn.o_proj, nn.Identity(),
        layer.layernorm_after, layer.mlp, layer.mlp.fc2, nn.Identity(), attn.scaling,
        mlp_first=layer.mlp.fc1, mlp_rest=lambda h: layer.mlp.fc2(layer.mlp.activation_fn(h)),
    )  # fmt: skip


def _hf_vit(trunk: Any) -> Anatomy:
    blocks = tuple(_hf_vit_block(b) for b in trunk.layers)
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    return _hf_anatomy("Hugging Face ViT", trunk, blocks, names)


def _old_hf_vit_block(layer: Any) -> BlockParts:
    attn, core = layer.attention, layer.attention.attention

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _heads((p(x) for p in (core.query, core.key, core.value)), core.num_attention_heads)

    return BlockParts(
        layer, layer.layernorm_before, attn, qkv, attn.output.dense, nn.Identity(),
        layer.layernorm_after, lambda x: layer.output.dense(layer.intermediate(x)),
        layer.output.dense, nn.Identity(), core.attention_head_size**-0.5,
    )  # fmt: skip


def _old_hf_vit(trunk: Any) -> Anatomy:
    blocks = tuple(_old_hf_vit_block(b) for b in trunk.encoder.layer)
    names = ("query", "key", "value", "dense")
    return _hf_anatomy("Hugging Face ViT (old module names)", trunk, blocks, names)


# Model types whose attention, MLP and layer are those of ViT line by line, and their tokens before
# the first patch. ViT-MAE's are too, but it drops and shuffles patches at random in every pass.
_HF_PREFIX = {"vit": 1, "vit_msn": 1, "deit": 2, "ijepa": 0}


def _hf_anatomy(
    family: str, trunk: Any, blocks: tuple[BlockParts, ...], lora: tuple[str, ...]
) -> Anatomy:
    n_heads = trunk.config.num_attention_heads
    return Anatomy(
        family, trunk, blocks, n_heads, _width_in(blocks[0].proj) // n_heads,
        trunk.config.hidden_size, _width_in(blocks[0].mlp_last),
        _HF_PREFIX[trunk.config.model_type], False, lora,
    )  # fmt: skip


def _gpt2_block(block: Any) -> BlockParts:
    attn = block.attn

    def qkv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _heads(attn.c_attn(x).chunk(3, dim=-1), attn.num_heads)

    def rest(hidden: Tensor) -> Tensor:
        if not isinstance(block.mlp.act, NewGELUActivation):
            return block.mlp.c_proj(block.mlp.act(hidden))
        # The same function in one kernel; composed of eight it costs a fifth of a sweep.
        return block.mlp.c_proj(F.gelu(hidden, approximate="tanh"))

    if hasattr(block, "crossattention"):
        raise _refuse("GPT-2 with cross-attention", "a second attention shares the block")
    return BlockParts(
        block, block.ln_1, attn, qkv, attn.c_proj, nn.Identity(),
        block.ln_2, lambda x: rest(block.mlp.c_fc(x)), block.mlp.c_proj, nn.Identity(),
        attn.scaling, mlp_first=block.mlp.c_fc, mlp_rest=rest,
    )  # fmt: skip


def _gpt2(trunk: Any) -> Anatomy:
    blocks = tuple(_gpt2_block(b) for b in trunk.h)
    attn: Any = blocks[0].attn
    return Anatomy(
        "GPT-2", trunk, blocks, attn.num_heads, attn.head_dim,
        trunk.embed_dim, _width_in(blocks[0].mlp_last), 0, True, ("c_attn", "c_proj"),
    )  # fmt: skip


def _width_in(linear: Any) -> int:
    """Input width of a linear module, also of GPT-2's Conv1D and of a LoRA wrapper."""
    base = getattr(linear, "base_layer", linear)
    return base.nx if hasattr(base, "nx") else base.in_features


@dataclass(frozen=True)
class Family:
    """One row of the architecture table.

    Args:
        modules: paths from the trunk to modules (or methods) by which it is recognised.
        read: the anatomy of such a trunk.
        model_types: `config.model_type` of the Hugging Face models that compute what `read` says;
            None where the trunk is not Hugging Face's.
    """

    modules: tuple[str, ...]
    read: Callable[[Any], Anatomy]
    model_types: tuple[str, ...] | None = None


FAMILIES: dict[str, Family] = {
    "timm ViT": Family(("patch_embed", "blocks.0", "forward_features"), _timm_vit),
    "Hugging Face ViT": Family(
        ("embeddings", "layers.0.attention.q_proj", "layers.0.layernorm_before"),
        _hf_vit,
        tuple(_HF_PREFIX),
    ),
    "Hugging Face ViT (old module names)": Family(
        ("embeddings", "encoder.layer.0.attention.attention", "layernorm"), _old_hf_vit, ("vit",)
    ),
    "GPT-2": Family(("wte", "wpe", "h.0.attn.c_attn"), _gpt2, ("gpt2",)),
}


def _n_reached(module: nn.Module, path: str) -> int:
    """How many names of a path lead on from a module; a 0 is the first of a list of modules."""
    part: object = module
    for i, name in enumerate(path.split(".")):
        if name == "0":
            listed = isinstance(part, nn.Sequential | nn.ModuleList) and len(part) > 0
            part = part[0] if listed else None  # type: ignore[index]
        else:
            part = getattr(part, name, None)
        if part is None:
            return i
    return path.count(".") + 1


def _lacks(module: nn.Module, path: str) -> str | None:
    """The part of a path up to the first name that a module does not have; None if it has all."""
    names, n = path.split("."), _n_reached(module, path)
    if n == len(names):
        return None
    # A list of modules is named by its first, so that the line says it must be a list.
    return ".".join(names[: n + 2 if names[n + 1 : n + 2] == ["0"] else n + 1])


def _recognised(module: nn.Module, family: Family) -> bool:
    return not any(_lacks(module, path) for path in family.modules)


def _nearest(model: nn.Module) -> str:
    """What the module that comes nearest to a family lacks, in words."""

    def share(module: nn.Module, family: Family) -> float:
        parts = [_n_reached(module, path) / (path.count(".") + 1) for path in family.modules]
        return sum(parts) / len(parts)

    pairs = [(module, name) for module in model.modules() for name in FAMILIES]
    module, name = max(pairs, key=lambda pair: share(pair[0], FAMILIES[pair[1]]))
    if share(module, FAMILIES[name]) == 0:
        return "no module of any family is in it"
    paths = FAMILIES[name].modules
    missing = [lack for path in paths if (lack := _lacks(module, path)) is not None]
    verb = "is" if len(missing) == 1 else "are"
    return f"nearest is {name}, but {', '.join(missing)} {verb} missing"


def _check_model_type(trunk: nn.Module, name: str) -> None:
    allowed = FAMILIES[name].model_types
    own = getattr(getattr(trunk, "config", None), "model_type", None)
    if allowed is not None and own not in allowed:
        what = f"{type(trunk).__name__} ({f'model type {own}' if own else 'no model type'})"
        missing = f"its modules are named as in {name}; allowed there is model type "
        raise _refuse(what, missing + ", ".join(allowed))


def find(model: nn.Module) -> Anatomy:
    """Find the one supported transformer in a model, however deeply it is wrapped.

    Args:
        model: a timm or Hugging Face model, a peft wrapper of one, or any module that holds
            exactly one of them.

    Returns:
        Where its parts are.

    Raises:
        ValueError: if the model holds no supported transformer, more than one, one of another
            model type, or one with an operation that the vocabulary cannot express; the line
            names it and what is missing.
    """
    found = [
        (name, module)
        for module in model.modules()
        for name, family in FAMILIES.items()
        if _recognised(module, family)
    ]
    # A wrapper that hands attributes through looks like its content: the innermost counts.
    candidates = {id(module) for _, module in found}
    found = [
        (name, module)
        for name, module in found
        if not any(id(part) in candidates for part in module.modules() if part is not module)
    ]
    n_trunks = len({id(module) for _, module in found})
    if n_trunks != 1:
        problem = f"{n_trunks} transformers"
        if n_trunks == 0:
            problem = f"no supported transformer: {_nearest(model)}"
        allowed = ", ".join(FAMILIES)
        raise ValueError(
            f"model: {type(model).__name__} holds {problem}; allowed is one of {allowed}"
        )
    name, trunk = found[0]
    _check_model_type(trunk, name)
    return FAMILIES[name].read(trunk)
