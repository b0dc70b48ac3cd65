"""What a patching sweep covers, and pairs of inputs that can be aligned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from patchwork.interventions.batches import n_rows

# Within attention nothing is shared between cells: these are patched by one pass for each.
WITHIN = ("q", "k", "v")
PER_HEAD = ("head_out", *WITHIN)
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", *PER_HEAD)
DIRECTIONS = ("clean_to_corrupted", "corrupted_to_clean")
RUNS = ("clean", "corrupted")


@dataclass(frozen=True)
class PatchGrid:
    """What a patching sweep covers.

    Args:
        components: of `resid_pre`, `attn_out`, `mlp_out`, `head_out`, `q`, `k`, `v`; the last three
            take the plain path, and all others of the grid with them.
        positions: tokens, counted from 0, the same in all examples; None is all. Or names, such as
            "subject", each with the token of every example, (n,), or with one row for the clean and
            one for the corrupted runs, (2, n): then prompts may have any length.
        direction: `clean_to_corrupted` (sufficiency) or `corrupted_to_clean` (necessity).

    Raises:
        ValueError: for an unknown component or direction, or positions that are no tokens, none
            or twice the same.
    """

    components: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out")
    positions: tuple[int, ...] | Mapping[str, Any] | None = None
    direction: str = "clean_to_corrupted"
    named: dict[str, np.ndarray] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        wrong = [name for name in self.components if name not in COMPONENTS]
        if wrong or not self.components:
            raise ValueError(
                f"components is {list(self.components)}; allowed is some of {', '.join(COMPONENTS)}"
            )
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is {self.direction!r}; allowed is {', '.join(DIRECTIONS)}")
        chosen = self.positions
        if isinstance(chosen, Mapping):
            object.__setattr__(self, "named", {str(k): _of_both(k, x) for k, x in chosen.items()})
            if not chosen:
                raise ValueError("positions names none; allowed is at least one")
            return
        object.__setattr__(self, "named", {})
        if chosen is not None and (
            len(set(chosen)) != len(chosen) or not chosen or min(chosen) < 0
        ):
            raise ValueError(
                f"positions is {list(chosen)}; allowed is tokens from 0, each once, or None"
            )

    def tokens(self, n_tokens: int) -> tuple[int, ...]:
        """The positions in a sequence of `n_tokens`, where all examples share them.

        Raises:
            ValueError: if one lies outside.
        """
        given = cast(tuple[int, ...] | None, self.positions)
        chosen = tuple(range(n_tokens)) if given is None else tuple(given)
        if max(chosen) >= n_tokens:
            raise ValueError(f"positions is {list(chosen)}; allowed is some of 0 to {n_tokens - 1}")
        return chosen


def _of_both(name: str, given: Any) -> np.ndarray:
    """Tokens (2, n) of the clean and the corrupted runs."""
    tokens = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    if tokens.ndim == 1:
        tokens = np.stack([tokens, tokens])
    if tokens.ndim != 2 or len(tokens) != 2 or tokens.dtype.kind not in "iu" or tokens.min() < 0:
        raise ValueError(
            f"positions of {name!r} are {tokens.dtype} of shape {tokens.shape}; allowed is one "
            "token from 0 for each example, (n,), or for clean and corrupted runs, (2, n)"
        )
    return tokens


def place(grid: PatchGrid, position: int | str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Token of each of the examples `rows` in the base and in the source run, int64 (m,)."""
    if not isinstance(position, str):
        same = torch.full_like(rows, int(position))
        return same, same
    clean, corrupted = torch.from_numpy(grid.named[position].astype(np.int64)).to(rows.device)
    base, source = (corrupted, clean) if grid.direction == DIRECTIONS[0] else (clean, corrupted)
    return base[rows], source[rows]


def check_pair(clean: Any, corrupted: Any, grid: PatchGrid | None = None) -> None:
    """Refuse pairs whose members cannot be aligned token by token, or by the names of a grid.

    Raises:
        ValueError: if the two differ in shape or padding, or, with positions by name, in their
            number or keys; or for a named position outside a prompt or in its padding.
    """
    shapes = [_shape(inputs) for inputs in (clean, corrupted)]
    if grid is not None and grid.named:
        _check_named(clean, corrupted, grid)
        return
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"clean has shape {shapes[0]} and corrupted {shapes[1]}; "
            "allowed is one shape (prompts of equal token length), or positions by name"
        )
    one, other = (_mask(inputs) for inputs in (clean, corrupted))
    if one is not None and other is not None and bool((one != other).any()):
        row = int((one != other).any(1).argmax())
        raise ValueError(
            f"clean and corrupted are padded at different tokens in example {row}; "
            "allowed is the same padding, or positions by name"
        )


def _mask(inputs: Any) -> np.ndarray | None:
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None or mask.ndim != 2:
        return None
    return np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) != 0


def _check_named(clean: Any, corrupted: Any, grid: PatchGrid) -> None:
    n = n_rows(clean)
    if n_rows(corrupted) != n:
        raise ValueError(
            f"clean has {n} examples and corrupted {n_rows(corrupted)}; allowed is as many"
        )
    for name, both in grid.named.items():
        if both.shape[1] != n:
            raise ValueError(
                f"positions of {name!r} are of {both.shape[1]} examples; allowed is {n}"
            )
        for run, inputs, tokens in zip(RUNS, (clean, corrupted), both, strict=True):
            ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else inputs
            if ids is None or len(ids.shape) != 2:
                continue  # no text: the number of tokens is known to the model alone
            shown, mask = np.ones(tuple(ids.shape), bool), _mask(inputs)
            shown = shown if mask is None else mask
            inside = tokens < shown.shape[1]
            wrong = ~inside | ~shown[np.arange(n), np.where(inside, tokens, 0)]
            if wrong.any():
                row = int(wrong.argmax())
                raise ValueError(
                    f"positions of {name!r}: token {tokens[row]} of {run} example {row} is outside "
                    "its prompt; allowed is a token that is no padding"
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
