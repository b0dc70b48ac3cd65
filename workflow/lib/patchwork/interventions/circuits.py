"""Circuits: how faithful the best parts of a ranking are, and a model whose circuit is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from patchwork.interventions.batches import Batch, batches, call, rewindable
from patchwork.interventions.hooks import editing, read
from patchwork.interventions.readout import LogitDifference, Metric, score
from patchwork.interventions.sweeps.effects import PatchEffects
from patchwork.interventions.sweeps.grid import check_pair
from patchwork.models import sites
from patchwork.models.sites import Site

# Shares of the nodes at which MIB asks.
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Faithfulness:
    """How much of what a model does its best-ranked nodes do.

    Attributes:
        shares: of the nodes that are kept, rising, within 0 to 1.
        kept: numbers of nodes.
        values: at each share (metric of the circuit - metric of the corrupted run) over (metric of
            the model - metric of the corrupted run), means over pairs; 1 is the whole model.
        cpr: area under the values, the integrated circuit performance ratio; more is better.
        cmd: area between the values and 1, the integrated circuit-model distance; 0 is best.
    """

    shares: tuple[float, ...]
    kept: tuple[int, ...]
    values: np.ndarray
    cpr: float
    cmd: float


def nodes(model: nn.Module) -> list[Site]:
    """Every head and every MLP of a supported model."""
    return sites.resolve(model, ["*.head_out.*", "*.mlp_out"])


def node_scores(effects: PatchEffects) -> dict[Site, float]:
    """Mean effect of each head and MLP of a patch or attribution sweep, summed over positions."""
    found: dict[Site, float] = {}
    for kind in ("head_out", "mlp_out"):
        means = effects.values[kind].sum(-2).mean(-1) if kind in effects.values else np.empty(0)
        for where in np.ndindex(means.shape if means.size else (0,)):
            found[Site(kind, *where)] = float(means[where])
    return found


def faithfulness(
    model: nn.Module,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    scores: Mapping[Site, float],
    *,
    shares: Sequence[float] = SHARES,
    chunk: int = 8,
) -> Faithfulness:
    """Run the clean inputs with all but the best-ranked nodes as in the corrupted run.

    Args:
        model: a supported model in eval mode.
        clean: n examples, as for `patch_sweep`.
        corrupted: the counterparts.
        metric: (model output, row numbers) -> one number per example, (m,).
        scores: of every node (see `nodes`), the greatest kept first. Pass magnitudes for `cmd`,
            where a node that works against the metric belongs to the circuit as well.
        shares: of the nodes that are kept, each rounded down to whole nodes; the embedding always
            is the clean run's.
        chunk: pairs at once.

    Raises:
        ValueError: for a node without a score or a score without a node, shares that do not rise
            within 0 to 1, or runs whose metrics do not differ.

    Source:
        Mueller et al. 2025, MIB: A Mechanistic Interpretability Benchmark, section 3 (CPR, CMD),
        for nodes in the place of edges.
    """
    sites.require_eval(model)
    check_pair(clean, corrupted)
    rewindable(clean, "clean")
    shares = tuple(map(float, shares))
    if len(shares) < 2 or list(shares) != sorted(set(shares)) or shares[0] < 0 or shares[-1] > 1:
        raise ValueError(f"shares is {list(shares)}; allowed is two or more, rising within 0 to 1")
    every = nodes(model)
    odd = sorted(map(str, set(every) ^ set(scores)))
    if odd:
        raise ValueError(f"scores: {odd[0]} is in one of scores and model; allowed is every node")
    ranked = sorted(every, key=lambda site: -scores[site])
    kept = tuple(int(share * len(ranked) + 1e-9) for share in shares)
    totals = np.zeros(len(kept) + 2)
    with torch.no_grad():
        pairs = zip(batches(clean, chunk, model), batches(corrupted, chunk, model), strict=True)
        for (rows, mine), (_, other) in pairs:
            stored = read(model, every, other, rows)
            for i, outside in enumerate([[], *(ranked[k:] for k in kept)]):
                totals[i] += _metric_without(model, metric, (mine, rows), outside, stored)
            totals[-1] += float(score(metric, call(model, other, rows), rows).sum())
    whole, none = totals[0], totals[-1]
    if whole == none:
        raise ValueError("metric is the same in clean and corrupted runs; allowed is a difference")
    values = (totals[1:-1] - none) / (whole - none)
    cpr, cmd = (float(np.trapezoid(y, shares)) for y in (values, np.abs(1 - values)))
    return Faithfulness(shares, kept, values, cpr, cmd)


def _metric_without(
    model: nn.Module,
    metric: Metric,
    piece: tuple[Batch, Tensor],
    outside: list[Site],
    stored: Mapping[Site, Tensor],
) -> float:
    """Sum of the metric with the activations `stored` at all sites outside a circuit."""
    batch, rows = piece
    with editing(model, outside, lambda site, x, r: stored[site], expect_change=False):
        return float(score(metric, call(model, batch, rows), rows).sum())


def auroc(scores: Mapping[Site, float], circuit: frozenset[Site]) -> float:
    """How well magnitudes of scores tell the nodes of a circuit from all others, 0.5 to 1 or less.

    Raises:
        ValueError: if every node or none is in the circuit.
    """
    truth = [site in circuit for site in scores]
    if all(truth) or not any(truth):
        raise ValueError(f"circuit holds {sum(truth)} of {len(truth)} nodes; allowed is some")
    return float(roc_auc_score(truth, np.abs(list(scores.values()))))


@dataclass(frozen=True)
class KnownCircuit:
    """A model whose weights were set by hand, and the nodes that do its task.

    Attributes:
        model: a GPT-2 in eval mode.
        circuit: heads that do the task; no other node changes the answer.
    """

    model: nn.Module
    circuit: frozenset[Site]


_LETTERS, _PLACES, _HEADS, _WIDTH = 12, 16, 4, 64
# Where the residual stream holds the token, its place, the token before it, and the answer.
_TOKEN, _PLACE = slice(0, 12), slice(12, 28)
_BEFORE, _ANSWER, _SPARE = slice(28, 40), slice(40, 52), slice(52, 64)


def induction(sharpness: float = 30.0) -> KnownCircuit:
    """A GPT-2 of two layers of attention that continues A B ... A with B, by two heads.

    Token and place are unit vectors, so that the norms divide by nearly the same number
    everywhere. Head 0 of layer 0 attends to the token before and notes it; head 0 of layer 1
    attends to where the token before was the present one and copies the token there to the answer,
    which the unembedding reads. Of the other heads one takes the mean of all tokens and one copies
    the present token, both to where nothing reads; the MLPs write nothing.

    Args:
        sharpness: score of the attended key over the others, > 0; from about 15 on the softmax is
            saturated, its slope nearly 0.

    Source:
        Elhage et al. 2021, A Mathematical Framework for Transformer Circuits (induction heads).
    """
    config = GPT2Config(
        vocab_size=_LETTERS, n_positions=_PLACES, n_embd=_WIDTH, n_layer=2, n_head=_HEADS,
        n_inner=4, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = ".ln_" in name and name.endswith("weight")
            parameter.fill_(1.0 if is_norm else 0.0)
        trunk = cast(Any, model.transformer)
        trunk.wte.weight[:, _TOKEN] = torch.eye(_LETTERS)
        trunk.wpe.weight[:, _PLACE] = torch.eye(_PLACES)
        model.lm_head.weight[:, _ANSWER] = torch.eye(_LETTERS)
        shift = torch.eye(_PLACES).roll(1, 1)  # a key says which place comes next
        shift[-1] = 0
        _wire(trunk.h[0], 0, (_PLACE, torch.eye(_PLACES)), (_PLACE, shift), _BEFORE, sharpness)
        _wire(trunk.h[0], 1, None, None, _SPARE, sharpness)
        eye = torch.eye(_LETTERS)
        _wire(trunk.h[1], 0, (_TOKEN, eye), (_BEFORE, eye), _ANSWER, sharpness)
        here = (_PLACE, torch.eye(_PLACES))
        _wire(trunk.h[1], 1, here, here, _SPARE, sharpness)
    return KnownCircuit(model, frozenset({Site("head_out", 0, 0), Site("head_out", 1, 0)}))


def _wire(
    block: Any,
    head: int,
    query: tuple[slice, Tensor] | None,
    key: tuple[slice, Tensor] | None,
    target: slice,
    sharpness: float,
) -> None:
    """Let a head compare a part of the stream with another and copy the token to a third."""
    d_head = _WIDTH // _HEADS
    # The norm multiplies a unit vector by about this, where two or three of them are in the stream.
    gain = (_WIDTH / 2.5) ** 0.5
    start = head * d_head
    for i, read_from in enumerate((query, key)):
        if read_from is not None:
            part, matrix = read_from
            columns = slice(i * _WIDTH + start, i * _WIDTH + start + matrix.shape[1])
            size = (sharpness * d_head**0.5) ** 0.5 / gain
            block.attn.c_attn.weight[part, columns] = size * matrix
    columns = slice(2 * _WIDTH + start, 2 * _WIDTH + start + _LETTERS)
    block.attn.c_attn.weight[_TOKEN, columns] = torch.eye(_LETTERS) / gain
    block.attn.c_proj.weight[start : start + _LETTERS, target] = torch.eye(_LETTERS)


def induction_prompts(n: int, seed: int) -> tuple[Tensor, Tensor, LogitDifference]:
    """Pairs of prompts for `induction`: A B and D C in random places, then A.

    In the corrupted prompts of even rows A and D have changed places, so that keys differ; of odd
    rows the last token is D, so that the query differs. In both the answer is C and no more B.

    Args:
        n: pairs.
        seed: of the tokens.

    Returns:
        Clean and corrupted tokens, int64 (n, 11), and the logit of B minus that of C.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    clean, corrupted, answers = [], [], []
    for row in range(n):
        letters = rng.permutation(np.arange(1, _LETTERS))[:9]
        one, two = sorted(rng.choice(np.arange(0, 4), 2, replace=False) * 2)
        a, d = letters[one], letters[two]
        prompt = np.array([0, *letters, a])
        other = prompt.copy()
        if row % 2:
            other[-1] = d
        else:
            other[[one + 1, two + 1]] = d, a
        clean.append(prompt)
        corrupted.append(other)
        answers.append((letters[one + 1], letters[two + 1]))
    right, wrong = torch.tensor(np.array(answers)).T
    pairs = [torch.tensor(np.stack(x)) for x in (clean, corrupted)]
    return pairs[0], pairs[1], LogitDifference(right, wrong)
