"""The released procedure: hooks on classes of modules, keyed by the text of a module.

GPT-2 has one `nn.Linear`, the unembedding; all other projections are `Conv1D`, which is a linear
layer with a transposed weight. Modules of equal shape have equal texts, so that those of all blocks
share one key and the last one wins. Both texts end with their answer and are not aligned; the
logits of all words of an answer are averaged at the last position.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

VARIANTS: dict[str, tuple[type[nn.Module], ...]] = {
    "linear": (nn.Linear,),
    "linear_and_conv1d": (nn.Linear, Conv1D),
}


def modules_by_text(model: nn.Module, variant: str) -> dict[str, nn.Module]:
    """Hooked modules by their text; of several with one text the last.

    Raises:
        ValueError: for an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; allowed is {', '.join(VARIANTS)}")
    kinds = VARIANTS[variant]
    return {str(module): module for module in model.modules() if isinstance(module, kinds)}


def recovery(
    model: nn.Module, clean: Tensor, corrupted: Tensor, right: Sequence[int], wrong: Sequence[int]
) -> pd.DataFrame:
    """Recovery of one pair of texts, as the released code computes it.

    Args:
        model: a GPT-2 in eval mode.
        clean: tokens of the question with the right answer, (t,).
        corrupted: tokens with the wrong answer, (t',); lengths may differ.
        right: tokens of the right answer.
        wrong: tokens of the wrong answer.

    Returns:
        One row per variant and hooked module: variant, module (its text), n_modules (modules with
        that text), recovery (%, nan where clean and corrupted score alike).
    """
    rows = []
    for variant, kinds in VARIANTS.items():
        texts = [str(module) for module in model.modules() if isinstance(module, kinds)]
        by_text = modules_by_text(model, variant)
        kept: dict[str, Tensor] = {}
        before = _score(_run(model, clean, by_text, kept, {}), right, wrong)
        base = _score(_run(model, corrupted, {}, {}, {}), right, wrong)
        for text, module in by_text.items():
            patched = _run(model, corrupted, {}, {}, {module: kept[text]})
            gap = before - base
            share = 100 * (_score(patched, right, wrong) - base) / gap if gap else float("nan")
            rows.append(
                {
                    "variant": variant, "module": text, "n_modules": texts.count(text),
                    "recovery": share,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _score(logits: Tensor, right: Sequence[int], wrong: Sequence[int]) -> float:
    last = logits[0, -1].double()
    return float(last[list(right)].mean() - last[list(wrong)].mean())


def _run(
    model: nn.Module,
    ids: Tensor,
    kept_from: dict[str, nn.Module],
    kept: dict[str, Tensor],
    patches: dict[nn.Module, Tensor],
) -> Tensor:
    handles = []

    def keep(text: str) -> Any:
        return lambda module, args, output: kept.__setitem__(text, output.detach())

    def put(stored: Tensor) -> Any:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            # ASSUME: texts of different length are aligned at their ends.
            n = min(output.shape[1], stored.shape[1])
            new = output.clone()
            new[:, -n:] = stored[:, -n:]
            return new

        return hook

    try:
        handles += [one.register_forward_hook(keep(text)) for text, one in kept_from.items()]
        handles += [one.register_forward_hook(put(stored)) for one, stored in patches.items()]
        with torch.no_grad():
            return model(ids[None]).logits
    finally:
        for handle in handles:
            handle.remove()
