"""A small GPT-2 that knows a few invented facts, and the facts."""

from functools import cache

import numpy as np
import pandas as pd
import torch
from patchwork.language import tokens
from transformers import GPT2Config, GPT2LMHeadModel

ANSWERS = ("dane", "rilo", "suma", "kept")
TEMPLATES = ("{s} is a kind of {a}", "by rule {s} is one {a}")
COPY = "the file on {s} is named"


@cache
def facts() -> pd.DataFrame:
    names = [x + y for x in ("bo", "ka", "mi", "zu") for y in ("tan", "rek", "lif", "dos")]
    rows = []
    for i, name in enumerate(names):
        answer, partner = ANSWERS[i % 4], (i + 1) % len(names)
        rows.append(
            {
                "fact": i,
                "role": "tested",
                "kind": ("definitional", "associative")[i // 4 % 2],
                "wording": ("is_a", "seen_with")[i // 4 % 2],
                "subject": name,
                "answer": answer,
                "foil": ANSWERS[partner % 4],
                "partner": partner,
                "determinism": (1.0, 0.7)[i % 2],
                "fan": 1,
                "exposures": (30, 50)[i // 2 % 2],
                "multi_token": False,
                "answers": answer,
                "split_half": i // 2 % 2,
                **{f"subject_start_{k}": 1 + 2 * k for k in (0, 1)},
                **{f"subject_end_{k}": 1 + 2 * k for k in (0, 1)},
                **{f"relation_{k}": 4 for k in (0, 1)},
                **{f"prompt_{k}": t.format(s=name, a="").strip() for k, t in enumerate(TEMPLATES)},
            }
        )
    return pd.DataFrame(rows)


@cache
def tokenizer():
    texts = [
        t.format(s=row.subject, a=row.answer) for t in TEMPLATES for row in facts().itertuples()
    ]
    return tokens.train([*texts, *facts()["subject"], COPY], 420)


def untrained(layers: int = 3, seed: int = 0, std: float = 0.02) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=tokenizer().get_vocab_size(), n_positions=32, n_embd=32, n_layer=layers,
        n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, initializer_range=std, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def rows() -> torch.Tensor:
    end = tokens.end_of(tokenizer())
    texts = [t.format(s=r.subject, a=r.answer) for t in TEMPLATES for r in facts().itertuples()]
    texts += [f"{COPY.format(s=r.subject)} {r.subject}" for r in facts().itertuples()]
    ids = [np.r_[end, row] for row in tokens.encode(tokenizer(), texts)]
    full = np.full((len(ids), max(map(len, ids))), -1)
    for row, one in zip(full, ids, strict=True):
        row[: len(one)] = one
    return torch.tensor(full)


@cache
def trained(only_layer: int | None = None) -> GPT2LMHeadModel:
    """The facts are learnt; with a layer, by that MLP alone in an otherwise random model."""
    model = untrained(std=0.02 if only_layer is None else 0.2)
    torch.manual_seed(1)
    ids = rows()
    last = (ids >= 0).sum(1) - 1
    targets = torch.full_like(ids, -100)
    targets[torch.arange(len(ids)), last] = ids[torch.arange(len(ids)), last]
    model.requires_grad_(False)
    chosen = model if only_layer is None else model.transformer.h[only_layer].mlp
    optimiser = torch.optim.Adam(chosen.requires_grad_(True).parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(ids.clamp(min=0), labels=targets).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.01:
            break
    return model.requires_grad_(False).eval()
