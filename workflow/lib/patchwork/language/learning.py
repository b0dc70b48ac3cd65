"""Train a language model on texts with the one training loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from patchwork.language import models, tokens
from patchwork.training import trainer

LAYOUTS = {"padded": tokens.padded, "chunked": tokens.chunked}


def train(
    model: nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    settings: Mapping,
    *,
    layout: str,
    padding_counts: bool,
    validation_share: float,
    seed: int,
    folders: tuple[str, str],
) -> trainer.Training:
    """Train what an adapter left trainable; the epoch is chosen on texts kept back.

    Args:
        model: trained in place; afterwards in eval mode with the weights of the best epoch.
        tokenizer: of the model.
        texts: all of them.
        settings: see :func:`patchwork.training.trainer.fit`.
        layout: ``padded`` (configuration I) or ``chunked`` (II).
        padding_counts: whether padding is learnt like text.
        validation_share: of the texts that choose the epoch; at least one does.
        seed: of which texts these are, of order and dropout.
        folders: of the checkpoint and of the events.

    Returns:
        The logs of :func:`patchwork.training.trainer.fit`; a loss is in nats per token.

    Raises:
        ValueError: if the tokenizer has more tokens than the model, or fewer than 2 texts come.
    """
    base = models.plain(model)
    if tokenizer.get_vocab_size() > base.config.vocab_size:
        raise ValueError(
            f"tokenizer has {tokenizer.get_vocab_size()} tokens; the model has "
            f"{base.config.vocab_size}: allowed is the tokenizer that it was trained with"
        )
    kept, held = held_out(len(texts), validation_share, seed)
    end = tokens.end_of(tokenizer)
    train_rows, validation_rows = (
        LAYOUTS[layout](tokenizer, [texts[i] for i in chosen], base.config.n_positions)
        for chosen in (kept, held)
    )
    learner = models.learner(model, train_rows, end=end, padding_counts=padding_counts)
    learner = learner.to(next(model.parameters()).device)
    return trainer.fit(
        learner,  # type: ignore[arg-type]
        models.Rows(train_rows),  # type: ignore[arg-type]
        models.Rows(validation_rows),  # type: ignore[arg-type]
        settings,
        seed=seed,
        folder=Path(folders[0]),
        events=Path(folders[1]),
    )


def held_out(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the texts that train, and of those that are kept back, both in order.

    Args:
        n: texts, 2 or more.
        share: kept back, above 0 and below 1; at least one text is.
        seed: which.

    Raises:
        ValueError: if no text would be left to train on.
    """
    kept_back = max(1, round(share * n))
    if kept_back >= n:
        raise ValueError(f"{n} texts are too few; allowed is at least 2")
    mixed = np.random.default_rng([seed, 3]).permutation(n)
    return np.sort(mixed[kept_back:]), np.sort(mixed[:kept_back])
