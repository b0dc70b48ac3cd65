"""Which cells a patching sweep covers, and which of them can be other than zero."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchwork.interventions.batches import n_rows
from patchwork.models.sites import Anatomy

COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "head_out")
DIRECTIONS = ("clean_to_corrupted", "corrupted_to_clean")


@dataclass(frozen=True)
class PatchGrid:
    """What a patching sweep covers.

    Args:
        components: of `resid_pre`, `attn_out`, `mlp_out`, `head_out`.
        positions: tokens, counted from 0; None is all.
        direction: `clean_to_corrupted` (sufficiency) or `corrupted_to_clean` (necessity).

    Raises:
        ValueError: for an unknown component or direction, or positions that are no tokens, none
            or twice the same.
    """

    components: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    positions: tuple[int, ...] | None = None
    direction: str = "clean_to_corrupted"

    def __post_init__(self) -> None:
        wrong = [name for name in self.components if name not in COMPONENTS]
        if wrong or not self.components:
            raise ValueError(
                f"components is {list(self.components)}; allowed is some of {', '.join(COMPONENTS)}"
            )
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is {self.direction!r}; allowed is {', '.join(DIRECTIONS)}")
        chosen = self.positions
        if chosen is not None and (
            len(set(chosen)) != len(chosen) or not chosen or min(chosen) < 0
        ):
            raise ValueError(
                f"positions is {list(chosen)}; allowed is tokens from 0, each once, or None"
            )

    def tokens(self, n_tokens: int) -> tuple[int, ...]:
        """The positions in a sequence of `n_tokens`.

        Raises:
            ValueError: if one lies outside.
        """
        chosen = tuple(range(n_tokens)) if self.positions is None else tuple(self.positions)
        if max(chosen) >= n_tokens:
            raise ValueError(f"positions is {list(chosen)}; allowed is some of 0 to {n_tokens - 1}")
        return chosen


def check_pair(clean: Any, corrupted: Any) -> None:
    """Refuse pairs whose members cannot be aligned token by token.

    Raises:
        ValueError: if the two differ in shape.
    """
    shapes = [_shape(inputs) for inputs in (clean, corrupted)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"clean has shape {shapes[0]} and corrupted {shapes[1]}; "
            "allowed is one shape (prompts of equal token length)"
        )


def _shape(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: tuple(value.shape) for name, value in inputs.items()}
    if not hasattr(inputs, "shape"):
        lengths = sorted({len(row) for row in inputs})
        raise ValueError(
            f"clean or corrupted is a list with rows of length {lengths}; allowed is an array"
        )
    return tuple(inputs.shape)


def first_difference(base: Tensor, source: Tensor) -> Tensor:
    """First token at which first streams (n, t, d) of each pair differ, (n,); t where none does."""
    differs = (base != source).any(-1)
    first = differs.to(torch.uint8).argmax(1)
    return torch.where(differs.any(1), first, differs.shape[1])


def by_first_difference(base: Any, source: Any) -> np.ndarray:
    """Order of pairs that puts those with a like first difference into one chunk, if they are ids.

    It saves work and decides nothing.
    """
    n = n_rows(base)
    if isinstance(base, Mapping):
        base, source = base.get("input_ids"), source.get("input_ids")
    if base is None or len(base.shape) != 2:
        return np.arange(n)
    one, other = (np.asarray(x.cpu() if isinstance(x, Tensor) else x) for x in (base, source))
    differs = one != other
    first = np.where(differs.any(1), differs.argmax(1), differs.shape[1])
    return np.argsort(first, kind="stable")


def shares(
    needed: list[int], cells: int, budget: int, anatomy: Anatomy, final: Tensor
) -> list[list[int]]:
    """Cut positions so that the streams of each share fit the budget; packing holds them twice."""
    n, t, d = final.shape
    shares: list[list[int]] = []
    room = 0
    for position in needed:
        rows = t - position if anatomy.causal else t
        cost = 2 * cells * n * rows * d * final.element_size()
        if not shares or cost > room:
            shares.append([])
            room = budget
        shares[-1].append(position)
        room -= cost
    return shares
