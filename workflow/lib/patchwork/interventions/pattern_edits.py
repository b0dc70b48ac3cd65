"""Edits within attention: whatever is active on one is applied to one queries, keys and pattern."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from patchwork.interventions.fast_path import kernels
from patchwork.models.families.parts import Rotation
from patchwork.models.sites import Anatomy, BlockParts

# Kinds of sites that no module gives: attention is computed again for them.
RECOMPUTED = ("q", "k", "v", "pattern")


@dataclass
class Attention:
    """What one attention makes: q, k and v (n, heads, t, d_head), and the pattern of them."""

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Tensor


# The kind of site, what puts an edit in place and says whether it changed anything, and the head
# that it is for, None for all.
PatternEdit = tuple[str, Callable[[Attention], bool], int | None]


class OpenBlock:
    """Something whose hooks hang on a model while a block is open."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ValueError(
            "model: copied or saved while a block that reads or edits it is open, which would go "
            "along for ever; allowed is before or after the block"
        )

    def check_thread(self, what: str) -> None:
        """Refuse a call of the model by another thread than that of the block."""
        if threading.get_ident() != self.thread:
            raise ValueError(
                f"site {what}: the model is called by another thread while a block is open; "
                "allowed is a copy of the model for each thread"
            )


class AttentionInputs(NamedTuple):
    """What an attention module is called with: the normed stream, mask and rotary positions."""

    normed: Tensor
    mask: Tensor | None
    rotation: Rotation | None
    causal: bool


class _Pattern(OpenBlock):
    """One attention whose pattern is recomputed, edited group by group and multiplied again.

    The hook before the projection comes before all others there, so that an edit of a head's
    output, in the same block or around it, acts on what the edited pattern gives.
    """

    def __init__(self, parts: BlockParts, causal: bool) -> None:
        super().__init__()
        self.parts, self.causal = parts, causal
        self.groups: list[tuple[Sequence[PatternEdit], bool]] = []
        self.context: AttentionInputs | None = None
        self.handles = [
            parts.attn.register_forward_pre_hook(self._remember, with_kwargs=True),
            parts.proj.register_forward_pre_hook(self._before, prepend=True),
        ]

    def _remember(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.context = attention_inputs(args, kwargs)

    def _before(self, module: nn.Module, args: tuple) -> tuple | None:
        assert self.context is not None, "attention was not called before its projection"
        context, self.context = self.context, None
        made = Attention(*self.parts.qkv(context.normed), context.normed[:0])
        n_heads, changed = made.q.shape[1], set[int | None]()
        for edits, _ in self.groups:
            changed |= {head for kind, edit, head in edits if kind != "pattern" and edit(made)}
        made.pattern = kernels.pattern_of(
            self.parts,
            made.q,
            made.k,
            self.causal or context.causal,
            context.mask,
            context.rotation,
        )
        for edits, renormalise in self.groups:
            heads = {head for kind, edit, head in edits if kind == "pattern" and edit(made)}
            changed |= heads
            if heads and renormalise:
                made.pattern /= made.pattern.sum(-1, keepdim=True)
                made.pattern.nan_to_num_(nan=0.0)
        if not changed:
            return None
        chosen = (
            list(range(n_heads)) if None in changed else sorted(h for h in changed if h is not None)
        )
        edited = args[0].unflatten(-1, (n_heads, -1)).clone()
        edited[:, :, chosen] = (made.pattern[:, chosen] @ made.v[:, chosen]).transpose(1, 2)
        return (edited.flatten(-2), *args[1:])


_ACTIVE: WeakKeyDictionary[nn.Module, _Pattern] = WeakKeyDictionary()


@contextmanager
def pattern_edits(
    anatomy: Anatomy, layer: int, edits: Sequence[PatternEdit], renormalise: bool
) -> Iterator[None]:
    """Keep a group of edits of one layer's pattern active, after those of enclosing blocks.

    Args:
        anatomy: of the model.
        layer: whose attention.
        edits: in the order in which they are applied.
        renormalise: whether rows are brought back to sum 1 when all of the group are applied; a
            row with no key left stays zero.
    """
    parts = anatomy.blocks[layer]
    pattern = _ACTIVE.get(parts.attn)
    if pattern is None:
        pattern = _ACTIVE[parts.attn] = _Pattern(parts, anatomy.causal)
    group = (edits, renormalise)
    pattern.groups.append(group)
    try:
        yield
    finally:
        pattern.groups = [other for other in pattern.groups if other is not group]
        if not pattern.groups:
            _ACTIVE.pop(parts.attn, None)
            for handle in pattern.handles:
                handle.remove()


_FIRST_ARGUMENTS = ("hidden_states", "x")


def first_key(args: tuple, kwargs: dict) -> str | None:
    """Name of the keyword that carries the hidden states; None where they come by position."""
    return None if args else next(name for name in _FIRST_ARGUMENTS if name in kwargs)


def first_argument(args: tuple, kwargs: dict) -> Tensor:
    """The hidden states that a module is called with."""
    key = first_key(args, kwargs)
    return args[0] if key is None else kwargs[key]


def attention_inputs(args: tuple, kwargs: dict) -> AttentionInputs:
    """Read them from the arguments of a call."""
    mask = kwargs.get("attention_mask", kwargs.get("attn_mask"))
    if len(args) > 1 and isinstance(args[1], Tensor):
        mask = args[1]
    if mask is None:
        mask = kwargs.get("shared_rel_pos_bias")
    causal = bool(kwargs.get("is_causal", False))
    return AttentionInputs(first_argument(args, kwargs), mask, rotation_of(kwargs), causal)


def rotation_of(kwargs: dict) -> Rotation | None:
    """Rotary positions, broadcastable to (n, heads, t, width), that a module is called with."""
    given = kwargs.get("position_embeddings", kwargs.get("rope"))
    if isinstance(
        given, tuple
    ):  # Hugging Face: cosines and sines, (1 or n, t, width) or (t, width)
        return tuple(angles.unsqueeze(1) if angles.ndim == 3 else angles for angles in given)
    return None if given is None else (given,)
