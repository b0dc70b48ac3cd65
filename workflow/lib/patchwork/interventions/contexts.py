"""Context managers: `ablate` removes a site's information, `patch` puts in another run's."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from patchwork.interventions.batches import given_rows
from patchwork.interventions.hooks import Block, Edit, as_sources, editing, mean_activations
from patchwork.models import sites
from patchwork.models.sites import Site


def _zero(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    return lambda site, tensor, rows: torch.zeros_like(tensor)


def _mean(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    means = mean_activations(model, chosen, _required(reference, "mean"))
    return lambda site, tensor, rows: means[site]


def _token_mean(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    means = mean_activations(model, chosen, _required(reference, "token_mean"), over_tokens=True)
    return lambda site, tensor, rows: means[site].expand(1, *tensor.shape[1:])


def _resample(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    stored = as_sources(model, chosen, _required(reference, "resample"))
    partner = _one_cycle(len(next(iter(stored.values()))), seed)

    def edit(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        return stored[site][partner[(rows % len(partner)).cpu()]]

    return edit


def _noise(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    # ASSUME: noise of the activation's own standard deviation; no paper of the studies fixes it.
    return gaussian_noise(1.0, seed)


def _knockout(model: nn.Module, chosen: list[Site], reference: Any, seed: int) -> Edit:
    wrong = [site for site in chosen if site.kind != "pattern"]
    if wrong:
        raise ValueError(f"baseline knockout at site {wrong[0]}; allowed is kind pattern")
    return cut_attention


def cut_attention(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
    """Attention knock-out: no weight from queries to keys; the rest is rescaled to sum 1."""
    return torch.zeros_like(tensor)


BASELINES: dict[str, Callable[[nn.Module, list[Site], Any, int], Edit]] = {
    "zero": _zero,
    "mean": _mean,
    "token_mean": _token_mean,
    "resample": _resample,
    "noise": _noise,
    "knockout": _knockout,
}


def _required(reference: Any, baseline: str) -> Any:
    if reference is None:
        raise ValueError(f"baseline {baseline} has no reference; allowed is a set of examples")
    return reference


def _one_cycle(n: int, seed: int) -> Tensor:
    """A random permutation of one cycle, so that no example is its own partner (Sattolo)."""
    if n < 2:
        raise ValueError(f"reference holds {n} example; allowed for resample is at least 2")
    rng = np.random.Generator(np.random.Philox(seed))
    order = rng.permutation(n)
    partner = np.empty(n, dtype=np.int64)
    partner[order] = np.roll(order, 1)
    return torch.from_numpy(partner)


def gaussian_noise(scale: float, seed: int) -> Edit:
    """A baseline that adds Gaussian noise, the same for a row whatever the batch or site order.

    Args:
        scale: standard deviation, in units of that of each example's own activation, > 0.
        seed: with the site and the row number it fixes the draws.

    Raises:
        ValueError: if scale <= 0.
    """
    if scale <= 0:
        raise ValueError(f"scale is {scale}; allowed is > 0")

    def edit(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        if tensor[:1].numel() < 2:
            raise ValueError(
                f"site {site} holds one number per example; allowed for noise is at least 2, "
                "whose standard deviation it takes"
            )
        name = np.frombuffer(str(site).encode(), dtype=np.uint8).astype(np.uint32)
        draws = torch.empty(tensor.shape, dtype=torch.float64)
        for draw, row in zip(draws, rows.tolist(), strict=True):
            sequence = np.random.SeedSequence([seed, *name, row])
            np.random.Generator(np.random.Philox(sequence)).standard_normal(out=draw.numpy())
        spread = tensor.flatten(1).std(1).reshape(-1, *[1] * (tensor.ndim - 1))
        return tensor + scale * spread * draws.to(tensor)

    return edit


def _own(baseline: Edit) -> Edit:
    """A user's function, given a copy, so that working in place does no harm."""
    return lambda site, tensor, rows: baseline(site, tensor.clone(), rows)


def ablate(
    model: nn.Module,
    chosen: str | Site | Iterable[str | Site],
    baseline: str | Edit = "zero",
    *,
    reference: Any = None,
    seed: int = 0,
    expect_change: bool = True,
) -> AbstractContextManager[nn.Module]:
    """Take the information at sites away for the length of a `with` block.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites (see `sites.parse`), ablated together: a head, a pair, a layer.
        baseline: `zero`; `mean` of a reference set, position by position; `token_mean`, its mean
            over positions too, for inputs of any length and `generate`; `resample`, the
            activation of another example of the reference set; `noise`, Gaussian, added;
            `knockout`, attention from queries to keys cut before the softmax; or a function of
            (site, activation, row numbers) that gives the new activation. Row numbers go on
            counting from call to call within the block; what the library runs there itself (a
            sweep, `read`, a source) is told the rows of its own inputs and leaves the count alone,
            and all passes of one `generate` have the same.
        reference: examples for the means and `resample`. If it is the evaluated set itself, in its
            order, `resample` never gives an example its own activation.
        seed: for `resample` and `noise`.
        expect_change: whether an unchanged activation (a dead head) is an error.

    Returns:
        A context manager that yields the model; it may be entered more than once.

    Raises:
        ValueError: for an unknown baseline, sites that match nothing or overlap, a model in
            training mode, a missing reference, or, on leaving, a hook that did not fire or change
            its tensor.
    """
    sites.require_eval(model)
    resolved = sites.resolve(model, chosen)
    sites.refuse_overlap(resolved)
    if isinstance(baseline, str):
        if baseline not in BASELINES:
            raise ValueError(f"baseline is {baseline!r}; allowed is {', '.join(BASELINES)}")
        edit = BASELINES[baseline](model, resolved, reference, seed)
    else:
        edit = baseline if baseline is cut_attention else _own(baseline)
    cut = edit is cut_attention
    return Block(
        lambda: editing(model, resolved, edit, expect_change=expect_change, renormalise=cut)
    )


def patch(
    model: nn.Module,
    chosen: str | Site | Iterable[str | Site],
    source: Any,
    *,
    expect_change: bool = True,
) -> AbstractContextManager[nn.Module]:
    """Put another run's activation at sites for the length of a `with` block.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites (see `sites.parse`), patched together.
        source: the other run's inputs, or its activations as a mapping from every site (or its
            name) to a tensor. Row i of the source goes into row i of the batch that the model is
            given, or of the inputs of a sweep within the block; one source row serves all.
        expect_change: whether an unchanged activation is an error.

    Returns:
        A context manager that yields the model; it may be entered more than once.

    Raises:
        ValueError: for sites that match nothing or overlap, a model in training mode, source
            activations of another shape, or, on leaving, a hook that did not fire or change its
            tensor.
    """
    sites.require_eval(model)
    resolved = sites.resolve(model, chosen)
    sites.refuse_overlap(resolved)
    stored = as_sources(model, resolved, source)

    def edit(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        new = stored[site].to(tensor.device)
        # A sweep around the block's examples runs them in pieces and in an order of its own.
        return new if given_rows() is None or len(new) == 1 else new[_within(rows, new, site)]

    return Block(lambda: editing(model, resolved, edit, expect_change=expect_change))


def steer(
    model: nn.Module,
    chosen: str | Site | Iterable[str | Site],
    direction: Tensor | np.ndarray,
    scale: float = 1.0,
) -> AbstractContextManager[nn.Module]:
    """Add a direction to the activation at sites for the length of a `with` block.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites (see `sites.parse`), of no `pattern`; without positions every token
            is steered, also each new one of `generate`.
        direction: shape (width,) of the site's activation, or (n, width), one for each example.
        scale: factor of the direction; negative turns away from it.

    Returns:
        A context manager that yields the model; it may be entered more than once.

    Raises:
        ValueError: as for `ablate`, or for a direction of another width.
    """
    sites.require_eval(model)
    resolved = sites.resolve(model, chosen)
    sites.refuse_overlap(resolved)
    wrong = [site for site in resolved if site.kind == "pattern"]
    if wrong:
        raise ValueError(f"steer at site {wrong[0]}; allowed is any kind but pattern")
    added = scale * torch.as_tensor(direction)

    def edit(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        if added.ndim not in (1, 2) or added.shape[-1] != tensor.shape[-1]:
            raise ValueError(
                f"direction has shape {tuple(added.shape)} at site {site}; allowed is "
                f"({tensor.shape[-1]},), or one row for each example"
            )
        own = added.to(tensor)
        return tensor + (own if added.ndim == 1 else own[_within(rows, own, site)][:, None])

    return Block(lambda: editing(model, resolved, edit))


def _within(rows: Tensor, source: Tensor, site: Site) -> Tensor:
    if int(rows.max()) >= len(source):
        raise ValueError(
            f"source or direction of site {site} has {len(source)} rows; "
            "allowed is one, or one for each example"
        )
    return rows
