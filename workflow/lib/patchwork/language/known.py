"""What a language model knows: facts that it completes, and how well it predicts texts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import nn

from patchwork.language import facts as fact_table
from patchwork.language import models, tokens

_TOLD = ("fact", "role", "kind", "determinism", "fan", "exposures")


@torch.no_grad()
def knowledge(model: nn.Module, frame: pd.DataFrame, tokenizer: Tokenizer) -> pd.DataFrame:
    """Ask a model every fact in both paraphrases.

    Args:
        model: in eval mode.
        frame: see :func:`patchwork.language.facts.read`.
        tokenizer: of the model.

    Returns:
        The table ``knowledge.csv`` without seed. A fact is right where the most probable token
        starts one of its answers; log odds are of its answer against its foil, first tokens, nats.
    """
    answer, foil = (
        fact_table.first_tokens(tokenizer, list(frame[key])) for key in ("answer", "foil")
    )
    right = [set(fact_table.first_tokens(tokenizer, one.split())) for one in frame["answers"]]
    parts = []
    for i in fact_table.PARAPHRASES:
        rows = torch.from_numpy(fact_table.prompts(frame, tokenizer, i))
        logits = torch.cat([model(part).logits[:, -1].float() for part in rows.split(256)])
        chances = logits.log_softmax(1).cpu().numpy()
        index, top = np.arange(len(frame)), chances.argmax(1)
        parts.append(
            pd.DataFrame(
                {
                    **{key: frame[key] for key in _TOLD},
                    "paraphrase": i,
                    "right": [int(one in known) for one, known in zip(top, right, strict=True)],
                    "top": [tokenizer.decode([int(one)]).strip() for one in top],
                    "log_probability": chances[index, answer],
                    "log_odds": chances[index, answer] - chances[index, foil],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def text_losses(
    model: nn.Module, texts: Sequence[str], tokenizer: Tokenizer, context: int
) -> pd.DataFrame:
    """How well a model predicts texts; padding never counts.

    Args:
        model: in eval mode.
        texts: held out from training.
        tokenizer: of the model.
        context: tokens of a row; longer texts are cut.

    Returns:
        The table ``text_losses.csv`` without seed.
    """
    end = tokens.end_of(tokenizer)
    rows = torch.from_numpy(tokens.padded(tokenizer, texts, context))
    losses = [
        models.token_losses(model, part, end=end, padding_counts=False).double().sum(1)
        for part in rows.split(32)
    ]
    counts = (tokens.labels(rows.numpy(), end, padding_counts=False) >= 0).sum(1)
    return pd.DataFrame(
        {"text": np.arange(len(texts)), "nats": torch.cat(losses).numpy(), "n_tokens": counts}
    )
