"""Edit one fact of a text model: rank-one changes of an MLP's output matrix, fine-tuning in bounds.

Matrices are (inputs, outputs): an output is `key @ matrix + bias`. Conv1D of GPT-2 keeps them so,
`nn.Linear` of the others the other way round.
Source: Meng et al. 2022, "Locating and editing factual associations in GPT" (ROME).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from patchwork.interventions.hooks import read
from patchwork.models import sites
from patchwork.models.sites import Site

KEYS = ("bare", "mean")


@dataclass(frozen=True)
class Moment:
    """Second moment of the keys of one MLP, not centred, shrunk towards a multiple of one.

    Attributes:
        matrix: shape (d_mlp, d_mlp), float64.
        shrinkage: weight of the multiple of one, 0 to 1 (Ledoit and Wolf 2004).
        condition: largest over smallest eigenvalue of the matrix.
        n_tokens: keys that it was estimated from.
    """

    matrix: Tensor
    shrinkage: float
    condition: float
    n_tokens: int


@dataclass(frozen=True)
class Contexts:
    """Prompts that tell one fact each, several per fact, padded on the right.

    Attributes:
        ids: tokens, int64 (m, t).
        fact: number of the fact of each row, 0 to n - 1, int64 (m,).
        subject: last token of the subject, int64 (m,).
        last: last token of the prompt, int64 (m,).
        bare: rows without a prefix, bool (m,); exactly one per fact, in their order.
    """

    ids: Tensor
    fact: Tensor
    subject: Tensor
    last: Tensor
    bare: Tensor


@dataclass(frozen=True)
class Optimiser:
    """How the new value of an edit is found; the numbers are those of ROME unless said otherwise.

    Attributes:
        learning_rate: of Adam.
        steps: at most.
        loss_min: loss below which a fact is left alone.
        kl_weight: of the divergence from the model's own prediction after the subject.
        decay: of the length of the change, in units of the squared length of the old value.
        clamp: largest length of the change, in lengths of the old value.
    """

    learning_rate: float = 0.5
    steps: int = 20
    loss_min: float = 0.05
    kl_weight: float = 0.0625
    decay: float = 0.5
    clamp: float = 4.0


def projection(model: nn.Module, layer: int) -> nn.Module:
    """The output projection of one MLP: Conv1D or `nn.Linear`."""
    return sites.find(model).blocks[layer].mlp_last


def output_matrix(model: nn.Module, layer: int) -> Tensor:
    """A view (d_mlp, d) of that projection's weight: what is written there changes the model.

    Raises:
        ValueError: for a projection of another class, of which the orientation is not known.
    """
    module = projection(model, layer)
    if isinstance(module, nn.Linear):
        return module.weight.detach().T
    if isinstance(module, Conv1D):
        return module.weight.detach()
    raise ValueError(
        f"layer {layer}: the MLP ends in a {type(module).__name__}; allowed is Linear or Conv1D "
        "(adapters merged)"
    )


def keys_at(model: nn.Module, layer: int, ids: Tensor, positions: Tensor) -> Tensor:
    """Input of the MLP's output projection at one token of each row, (m, d_mlp)."""
    site = Site("mlp_hidden", layer)
    with torch.no_grad():
        keys = read(model, site, ids)[site]
    return keys[torch.arange(len(ids)), positions]


def second_moment(keys: Tensor) -> Moment:
    """Estimate the second moment of keys (n, d_mlp)."""
    matrix, shrinkage = ledoit_wolf(keys.double().numpy(), assume_centered=True)
    values = np.linalg.eigvalsh(matrix)
    condition = float(values[-1] / values[0]) if values[0] > 0 else float("inf")
    return Moment(torch.from_numpy(matrix), float(shrinkage), condition, len(keys))


def rank_one(weight: Tensor, key: Tensor, value: Tensor, direction: Tensor) -> Tensor:
    """The change of a matrix along `direction` after which the key gives the value.

    With `direction` the inverse second moment times the key, it is the smallest change that does
    so, measured by the mean square of what it does to the keys of the second moment.

    Args:
        weight: shape (d_in, d_out).
        key: shape (d_in,).
        value: shape (d_out,), what `key @ (weight + change)` becomes.
        direction: shape (d_in,), not orthogonal to the key.

    Returns:
        shape (d_in, d_out), the change.

    Raises:
        ValueError: if the direction is orthogonal to the key.
    """
    size = direction @ key
    if size == 0:
        raise ValueError("direction is orthogonal to key; allowed is one that is not")
    return torch.outer(direction, value - key @ weight) / size


def directions(moment: Moment, keys: Tensor) -> Tensor:
    """Inverse second moment times each key, (n, d_mlp) float64."""
    return torch.linalg.solve(moment.matrix, keys.double().T).T


def mean_keys(model: nn.Module, layer: int, contexts: Contexts) -> tuple[Tensor, Tensor]:
    """Key of the bare prompt, and mean key over all contexts, of each fact, each (n, d_mlp)."""
    keys = keys_at(model, layer, contexts.ids, contexts.subject)
    n = int(contexts.fact.max()) + 1
    total = keys.new_zeros(n, keys.shape[1]).index_add_(0, contexts.fact, keys)
    return keys[contexts.bare], total / contexts.fact.bincount()[:, None]


def best_values(
    model: nn.Module, layer: int, contexts: Contexts, wanted: Tensor, options: Optimiser
) -> Tensor:
    """Outputs of the MLP at the last subject token under which each fact says something else.

    All facts are optimised at once; none acts on another.

    Args:
        model: a text model in eval mode; its weights are not changed.
        layer: of the MLP.
        contexts: of n facts.
        wanted: token that each fact shall predict, (n,).
        options: see `Optimiser`.

    Returns:
        shape (n, d).

    Source: ROME, section 3.1 and its released code. ASSUME: the prediction that is kept is the one
    after the first token behind the subject of the bare prompt, in place of that of "{subject} is
    a", which costs a pass of its own.
    """
    rows = torch.arange(len(contexts.ids))
    beyond = torch.minimum(contexts.subject + 1, contexts.last - 1)[contexts.bare]
    with torch.no_grad():
        old = _outputs(model, layer, contexts)[contexts.bare]
        own = _log_p(model, contexts.ids[contexts.bare])[torch.arange(len(old)), beyond]
    change = torch.zeros_like(old, requires_grad=True)
    length = old.norm(dim=1)
    adam = torch.optim.Adam([change], lr=options.learning_rate)
    module = projection(model, layer)

    def add(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        new = output.clone()
        new[rows, contexts.subject] = new[rows, contexts.subject] + change[contexts.fact]
        return new

    counts = contexts.fact.bincount()
    handle = module.register_forward_hook(add)
    try:
        for step in range(options.steps):
            log_p = _log_p(model, contexts.ids)
            said = log_p[rows, contexts.last, wanted[contexts.fact]]
            loss = -torch.zeros(len(old)).index_add(0, contexts.fact, said) / counts
            now = log_p[contexts.bare][torch.arange(len(old)), beyond]
            kept = F.kl_div(own, now, log_target=True, reduction="none").sum(-1)
            short = options.decay * change.norm(dim=1) / length**2
            total = loss + options.kl_weight * kept + short
            open_ = (total > options.loss_min)[:, None]
            if step == options.steps - 1 or not open_.any():
                break
            (slope,) = torch.autograd.grad(total.sum(), change)
            before = change.detach().clone()
            change.grad = slope
            adam.step()
            with torch.no_grad():
                size = change.norm(dim=1, keepdim=True)
                most = options.clamp * length[:, None]
                bounded = torch.where(size > most, change * most / size, change)
                change.copy_(torch.where(open_, bounded, before))
    finally:
        handle.remove()
    return old + change.detach()


def _outputs(model: nn.Module, layer: int, contexts: Contexts) -> Tensor:
    site = Site("mlp_out", layer)
    return read(model, site, contexts.ids)[site][torch.arange(len(contexts.ids)), contexts.subject]


def _log_p(model: nn.Module, ids: Tensor) -> Tensor:
    return torch.log_softmax(model(ids).logits, -1)


def rome(
    model: nn.Module,
    layer: int,
    contexts: tuple[Contexts, Contexts],
    wanted: Tensor,
    moment: Moment,
    options: Optimiser,
) -> dict[str, list[Tensor]]:
    """Rank-one edits of n facts, each on its own.

    Args:
        model: a text model in eval mode; not changed.
        layer: of the MLP.
        contexts: of n facts: those over which keys are averaged, and those in which the new values
            must work, perhaps fewer.
        wanted: token that each fact shall predict, (n,).
        moment: of this MLP's keys.
        options: of the new values.

    Returns:
        Changes of the MLP's output matrix (d_mlp, d), one per fact, by key. `bare`: the key of the
        bare prompt maps to the new value along the direction of the mean key, as the released code
        does; `mean`: the mean key maps to it.
    """
    weight = output_matrix(model, layer)
    values = best_values(model, layer, contexts[1], wanted, options)
    bare, mean = mean_keys(model, layer, contexts[0])
    along = directions(moment, mean).to(weight)
    # The bias, if any, is added behind the matrix.
    bias = getattr(projection(model, layer), "bias", None)
    aims = values if bias is None else values - bias.detach()
    return {
        name: [
            rank_one(weight, key, aim, direction)
            for key, aim, direction in zip(keys, aims, along, strict=True)
        ]
        for name, keys in zip(KEYS, (bare, mean), strict=True)
    }


def random_rank_one(change: Tensor, seed: int) -> Tensor:
    """A rank-one matrix with random directions and the norm of another change."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(size, generator=generator) for size in change.shape)
    found = torch.outer(left, right).to(change)
    return found * (change.norm() / found.norm())


def constrained_tuning(
    model: nn.Module,
    layer: int,
    prompt: Tensor,
    wanted: int,
    *,
    learning_rate: float = 5e-4,
    steps: int = 25,
    bound: float = 5e-4,
) -> Tensor:
    """Fine-tune one MLP's output matrix on one fact, each entry within a bound.

    Args:
        model: a text model in eval mode; as it was when this returns.
        layer: of the MLP.
        prompt: tokens, int64 (t,).
        wanted: token that the prompt shall predict.
        learning_rate: of Adam.
        steps: 1 or more.
        bound: largest change of an entry (L-infinity norm), above 0.

    Returns:
        The change, (d_mlp, d).

    Source: ROME's baseline FT+L; its numbers are the defaults.
    """
    output_matrix(model, layer)  # refuses what is no matrix
    module = projection(model, layer)
    weight = module.get_parameter("weight")
    old, needed = weight.detach().clone(), weight.requires_grad
    weight.requires_grad_(True)
    adam = torch.optim.Adam([weight], lr=learning_rate)
    try:
        for _ in range(steps):
            loss = -_log_p(model, prompt[None])[0, -1, wanted]
            (weight.grad,) = torch.autograd.grad(loss, [weight])
            adam.step()
            with torch.no_grad():
                weight.copy_(torch.clamp(weight, old - bound, old + bound))
        change = weight.detach() - old
        return change.T if isinstance(module, nn.Linear) else change
    finally:
        with torch.no_grad():
            weight.copy_(old)
        weight.grad = None
        weight.requires_grad_(needed)


@contextmanager
def edited(model: nn.Module, layer: int, change: Tensor) -> Iterator[nn.Module]:
    """The model with a changed output matrix of one MLP, for the length of a `with` block."""
    matrix = output_matrix(model, layer)
    old = matrix.clone()
    try:
        matrix.add_(change)
        yield model
    finally:
        matrix.copy_(old)


def sampled_prefixes(
    model: nn.Module, start: int, lengths: tuple[int, ...], n_each: int, seed: int, top: int = 5
) -> list[Tensor]:
    """Texts that the model itself writes, to stand before a prompt.

    Args:
        model: a text model in eval mode.
        start: token that starts a text; the prefixes begin with it.
        lengths: tokens behind it, several lengths.
        n_each: prefixes of each length.
        seed: of the draws.
        top: tokens among which each is drawn, as ROME does.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        ids = torch.full((n_each, 1), start)
        with torch.no_grad():
            for _ in range(length):
                best = model(ids).logits[:, -1].topk(top)
                drawn = torch.multinomial(best.values.softmax(-1), 1, generator=generator)
                ids = torch.cat([ids, best.indices.gather(1, drawn)], 1)
        found += list(ids)
    return found


def in_contexts(prompts: Tensor, subject: Tensor, prefixes: list[Tensor], pad: int) -> Contexts:
    """Each prompt alone and behind every prefix.

    Args:
        prompts: int64 (n, t), each starting with the token that starts a text.
        subject: last token of the subject, (n,).
        prefixes: starting with the same token, which the prompt then loses.
        pad: token that fills rows on the right.
    """
    n, t = prompts.shape
    longest = t + max((len(one) - 1 for one in prefixes), default=0)
    rows, shifts = [], []
    for prefix in [prompts.new_empty(0), *prefixes]:
        shift = max(len(prefix) - 1, 0)
        row = prompts.new_full((n, longest), pad)
        row[:, shift : shift + t] = prompts
        row[:, : len(prefix)] = prefix  # in place of the prompt's own start
        rows.append(row)
        shifts.append(torch.full((n,), shift))
    moved, m = torch.cat(shifts), len(rows)
    return Contexts(
        ids=torch.cat(rows),
        fact=torch.arange(n).repeat(m),
        subject=subject.repeat(m) + moved,
        last=torch.full((n * m,), t - 1) + moved,
        bare=torch.arange(n * m) < n,
    )
