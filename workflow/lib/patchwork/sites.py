"""One vocabulary of sites for every supported transformer; nothing else knows an architecture."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.models.vision_transformer import Block as TimmBlock
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import NewGELUActivation

KINDS = {
    "resid_pre": "residual stream before a block, (n, t, d)",
    "attn_out": "output of the attention's projection, before any LayerScale, (n, t, d)",
    "mlp_out": "output of the MLP's second layer, before any LayerScale, (n, t, d)",
    "head_out": "one head's vector at the input of the output projection, (n, t, d_head)",
    "mlp_hidden": "one MLP unit after the activation function, (n, t, 1)",
    "pattern": "one head's attention after the softmax, (n, 1, query, key)",
}
_INDEXED = ("head_out", "mlp_hidden", "pattern")
_GRAMMAR = re.compile(
    r"(?P<layer>\*|\d+)\.(?P<kind>[a-z_]+)(?:\.(?P<index>\*|\d+))?"
    r"(?:@(?P<positions>\d+(?:,\d+)*))?(?:<-(?P<keys>\d+(?:,\d+)*))?"
)


@dataclass(frozen=True)
class Site:
    """A place in a transformer whose activation can be read, ablated or patched.

    Args:
        kind: a key of `KINDS`.
        layer: block, counted from 0.
        index: head (`head_out`, `pattern`) or unit (`mlp_hidden`); None is all of them.
        positions: tokens (`pattern`: queries), counted from 0; None is all of them.
        keys: only for `pattern`: the attended tokens; None is all of them.
    """

    kind: str
    layer: int
    index: int | None = None
    positions: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None

    def __str__(self) -> str:
        text = f"{self.layer}.{self.kind}" + ("" if self.index is None else f".{self.index}")
        if self.positions is not None:
            text += "@" + ",".join(map(str, self.positions))
        return text + ("" if self.keys is None else "<-" + ",".join(map(str, self.keys)))


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
            f"timm block {type(block).__name__}", "allowed is the pre-norm Block with one Attention"
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


def _hf_anatomy(
    family: str, trunk: Any, blocks: tuple[BlockParts, ...], lora: tuple[str, ...]
) -> Anatomy:
    n_heads = trunk.config.num_attention_heads
    return Anatomy(
        family, trunk, blocks, n_heads, _width_in(blocks[0].proj) // n_heads,
        trunk.config.hidden_size, _width_in(blocks[0].mlp_last), 1, False, lora,
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


def _has(*paths: str) -> Callable[[nn.Module], bool]:
    def matches(module: nn.Module) -> bool:
        for path in paths:
            part: object = module
            for name in path.split("."):
                if name == "0":
                    part = part[0] if isinstance(part, nn.Sequential | nn.ModuleList) else None
                else:
                    part = getattr(part, name, None)
                if part is None:
                    return False
        return True

    return matches


# The architecture table: how to recognise a trunk by its module names, and how to read it.
FAMILIES: dict[str, tuple[Callable[[nn.Module], bool], Callable[[nn.Module], Anatomy]]] = {
    "timm ViT": (_has("patch_embed", "blocks.0", "forward_features"), _timm_vit),
    "Hugging Face ViT": (
        _has("embeddings", "layers.0.attention.q_proj", "layers.0.layernorm_before"),
        _hf_vit,
    ),
    "Hugging Face ViT (old module names)": (
        _has("embeddings", "encoder.layer.0.attention.attention", "layernorm"),
        _old_hf_vit,
    ),
    "GPT-2": (_has("wte", "wpe", "h.0.attn.c_attn"), _gpt2),
}


def _width_in(linear: Any) -> int:
    """Input width of a linear module, also of GPT-2's Conv1D and of a LoRA wrapper."""
    base = getattr(linear, "base_layer", linear)
    return base.nx if hasattr(base, "nx") else base.in_features


def find(model: nn.Module) -> Anatomy:
    """Find the one supported transformer in a model, however deeply it is wrapped.

    Args:
        model: a timm or Hugging Face model, a peft wrapper of one, or any module that holds
            exactly one of them.

    Returns:
        Where its parts are.

    Raises:
        ValueError: if the model holds no supported transformer, more than one, or one with an
            operation that the vocabulary cannot express; the line names it.
    """
    found = [
        (read, module)
        for module in model.modules()
        for recognises, read in FAMILIES.values()
        if recognises(module)
    ]
    # A wrapper that hands attributes through looks like its content: the innermost counts.
    candidates = {id(module) for _, module in found}
    found = [
        (read, module)
        for read, module in found
        if not any(id(part) in candidates for part in module.modules() if part is not module)
    ]
    trunks = {id(module) for _, module in found}
    if len(trunks) != 1:
        problem = "no supported transformer" if not trunks else f"{len(trunks)} transformers"
        allowed = ", ".join(FAMILIES)
        raise ValueError(
            f"model: {type(model).__name__} holds {problem}; allowed is one of {allowed}"
        )
    read, module = found[0]
    return read(module)


def require_eval(model: nn.Module) -> None:
    """Refuse a model with any part in training mode: dropout would drown an effect.

    Raises:
        ValueError: if a module of the model is in training mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(f"model: {type(model).__name__} is in training mode; call model.eval()")


def parse(text: str, anatomy: Anatomy) -> list[Site]:
    """Read one site name: `layer.kind[.index][@positions][<-keys]`, with `*` for every one.

    `3.head_out.5` is a head, `3.head_out` all heads of a layer together, `*.head_out.*` each
    head apart, `0.resid_pre@4` one token, `2.pattern.1@0<-3,4` the attention of token 0 to
    tokens 3 and 4.

    Raises:
        ValueError: if the name does not follow the grammar or matches nothing.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(
            f"site {text!r} matches nothing; allowed is layer.kind[.index][@positions][<-keys]"
        )
    site = Site(match["kind"], 0, None, _numbers(match["positions"]), _numbers(match["keys"]))
    _check_kind(site, text)
    layers = range(anatomy.n_layers) if match["layer"] == "*" else [int(match["layer"])]
    if match["index"] == "*":
        indices: Iterable[int | None] = range(_n_index(site.kind, anatomy))
    else:
        indices = [None if match["index"] is None else int(match["index"])]
    return [replace(site, layer=layer, index=index) for layer in layers for index in indices]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(int(part) for part in text.split(","))


def _n_index(kind: str, anatomy: Anatomy) -> int:
    if kind not in _INDEXED:
        allowed = ", ".join(_INDEXED)
        raise ValueError(f"site kind {kind} has no index; allowed with one is {allowed}")
    return anatomy.d_hidden if kind == "mlp_hidden" else anatomy.n_heads


def _check_kind(site: Site, name: str) -> None:
    if site.kind not in KINDS:
        raise ValueError(f"site {name!r}: kind {site.kind!r}; allowed is {', '.join(KINDS)}")


def _check(site: Site, anatomy: Anatomy) -> None:
    _check_kind(site, str(site))
    if not 0 <= site.layer < anatomy.n_layers:
        raise ValueError(f"site {site}: layer {site.layer}; allowed is 0 to {anatomy.n_layers - 1}")
    if site.index is not None:
        n = _n_index(site.kind, anatomy)
        if not 0 <= site.index < n:
            noun = "unit" if site.kind == "mlp_hidden" else "head"
            raise ValueError(f"site {site}: {noun} {site.index}; allowed is 0 to {n - 1}")
    if site.keys is not None and site.kind != "pattern":
        raise ValueError(f"site {site}: keys are for kind pattern; allowed here is None")


def resolve(
    model: nn.Module, sites: str | Site | Iterable[str | Site], anatomy: Anatomy | None = None
) -> list[Site]:
    """Turn site names into checked sites, in the order given.

    Args:
        model: any supported model.
        sites: one name or `Site`, or several; see `parse` for the names.
        anatomy: what `find(model)` gave, to save finding it again.

    Raises:
        ValueError: if nothing is named, a name matches nothing, or a number is out of range.
    """
    anatomy = anatomy or find(model)
    several: Iterable[str | Site] = [sites] if isinstance(sites, str | Site) else sites
    resolved: list[Site] = []
    for site in several:
        resolved += [site] if isinstance(site, Site) else parse(site, anatomy)
    if not resolved:
        raise ValueError("sites: none named; allowed is at least one")
    for site in resolved:
        _check(site, anatomy)
    return resolved
