"""Reading and editing activations at sites; hooks are removed whatever happens."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from patchwork import sites
from patchwork.interventions import kernels
from patchwork.interventions.batches import Batch, batches, call
from patchwork.sites import Anatomy, Site

# What an edit does: (site, its activation, numbers of its rows within the block) -> new activation.
Edit = Callable[[Site, Tensor, Tensor], Tensor]
_FIRST_ARGUMENTS = ("hidden_states", "x")


class _Tap:
    """One site's hooks: reads the activation, hands it to `edit`, puts the result back."""

    def __init__(self, site: Site, anatomy: Anatomy, edit: Edit, renormalise: bool) -> None:
        self.site, self.anatomy, self.edit, self.renormalise = site, anatomy, edit, renormalise
        self.parts = anatomy.blocks[site.layer]
        self.calls, self.rows, self.changed = 0, 0, False
        self.context: tuple[Tensor, Tensor | None] | None = None

    def attach(self, stack: ExitStack) -> None:
        """Register the hooks; `stack` removes them."""
        kind, parts = self.site.kind, self.parts
        if kind == "pattern":
            hook = parts.attn.register_forward_pre_hook(self._remember, with_kwargs=True)
            stack.callback(hook.remove)
        module = {
            "resid_pre": parts.block,
            "mlp_hidden": parts.mlp_last,
            "mlp_out": parts.mlp_last,
        }.get(kind, parts.proj)
        if kind in ("attn_out", "mlp_out"):
            handle = module.register_forward_hook(self._after)
        else:
            handle = module.register_forward_pre_hook(self._before, with_kwargs=True)
        stack.callback(handle.remove)

    def _remember(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        key = _first_key(args, kwargs)
        mask = kwargs.get("attention_mask", kwargs.get("attn_mask"))
        if len(args) > 1 and isinstance(args[1], Tensor):
            mask = args[1]
        self.context = (args[0] if key is None else kwargs[key], mask)

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        key = _first_key(args, kwargs)
        old = args[0] if key is None else kwargs[key]
        new = self._apply(old)
        if new is old:
            return None
        return ((new, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: new})

    def _after(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        new = self._apply(output)
        return None if new is output else new

    def _apply(self, tensor: Tensor) -> Tensor:
        self.calls += 1
        rows = torch.arange(self.rows, self.rows + len(tensor), device=tensor.device)
        self.rows += len(tensor)
        if self.site.kind == "pattern":
            return self._apply_to_pattern(tensor, rows)
        where = _where(self.site, self.anatomy, tensor.shape[1])
        old = tensor[where]
        new = self.edit(self.site, old, rows)
        if new is old:
            return tensor
        _check_shape(self.site, old, new)
        return self._put(tensor, where, old, new)

    def _put(self, tensor: Tensor, where: Any, old: Tensor, new: Tensor) -> Tensor:
        if torch.equal(old, new.expand_as(old)):
            return tensor
        self.changed = True
        edited = tensor.clone()
        edited[where] = new.to(tensor.dtype)
        return edited

    def _apply_to_pattern(self, heads: Tensor, rows: Tensor) -> Tensor:
        assert self.context is not None, f"{self.site}: attention was not called before projection"
        normed, mask = self.context
        full, values = kernels.pattern(self.parts, normed, self.anatomy.causal, mask)
        where = _where_pattern(self.site, full)
        old = full[where]
        new = self.edit(self.site, old, rows)
        if new is old:
            return heads
        _check_shape(self.site, old, new)
        if torch.equal(old, new.expand_as(old)):
            return heads
        full = full.clone()
        full[where] = new
        if self.renormalise:
            full = (full / full.sum(-1, keepdim=True)).nan_to_num(nan=0.0)
        chosen = slice(None) if self.site.index is None else [self.site.index]
        edited = heads.unflatten(-1, (self.anatomy.n_heads, -1)).clone()
        edited[:, :, chosen] = (full[:, chosen] @ values[:, chosen]).transpose(1, 2)
        self.changed = True
        return edited.flatten(-2)


def _first_key(args: tuple, kwargs: dict) -> str | None:
    if args:
        return None
    return next(name for name in _FIRST_ARGUMENTS if name in kwargs)


def _where(site: Site, anatomy: Anatomy, n_tokens: int) -> tuple:
    """Index of a site's part of (n, t, columns); an indexed head or unit keeps its axis."""
    _check_tokens(site, site.positions, n_tokens)
    rows = slice(None) if site.positions is None else list(site.positions)
    columns = slice(None)
    if site.index is not None:
        width = anatomy.d_head if site.kind == "head_out" else 1
        columns = slice(site.index * width, (site.index + 1) * width)
    return (slice(None), rows, columns)


def _where_pattern(site: Site, full: Tensor) -> tuple:
    """Index of a site's part of a pattern (n, heads, queries, keys), all axes kept."""
    _check_tokens(site, site.positions, full.shape[2])
    _check_tokens(site, site.keys, full.shape[3])
    device = full.device
    heads = range(full.shape[1]) if site.index is None else [site.index]
    queries = range(full.shape[2]) if site.positions is None else site.positions
    keys = range(full.shape[3]) if site.keys is None else site.keys
    axes = [torch.tensor(list(axis), device=device) for axis in (heads, queries, keys)]
    return (slice(None), axes[0][:, None, None], axes[1][:, None], axes[2])


def _check_tokens(site: Site, positions: tuple[int, ...] | None, n_tokens: int) -> None:
    outside = [p for p in positions or () if not 0 <= p < n_tokens]
    if outside:
        raise ValueError(f"site {site}: position {outside[0]}; allowed is 0 to {n_tokens - 1}")


def _check_shape(site: Site, old: Tensor, new: Tensor) -> None:
    if new.shape[1:] != old.shape[1:] or new.shape[0] not in (1, old.shape[0]):
        raise ValueError(
            f"source of site {site} has shape {tuple(new.shape)}; allowed is {tuple(old.shape)}"
        )


@contextmanager
def editing(
    model: nn.Module,
    chosen: list[Site],
    edit: Edit,
    *,
    expect_change: bool = True,
    renormalise: bool = False,
) -> Iterator[nn.Module]:
    """Edit activations at sites for the length of a `with` block.

    Args:
        model: a supported model in eval mode.
        chosen: resolved sites.
        edit: called at every site in every forward pass; returning its own argument edits nothing.
        expect_change: whether a site that no forward pass changed is an error.
        renormalise: whether rows of edited attention patterns are brought back to sum 1 (a row
            with no key left stays zero).

    Yields:
        The model.

    Raises:
        ValueError: if the model is in training mode, or, on leaving without another exception,
            if a hook never fired or (with `expect_change`) never changed its tensor.
    """
    sites.require_eval(model)
    anatomy = sites.find(model)
    taps = [_Tap(site, anatomy, edit, renormalise) for site in chosen]
    with ExitStack() as stack:
        for tap in taps:
            tap.attach(stack)
        yield model
    for tap in taps:
        if tap.calls == 0:
            raise ValueError(
                f"site {tap.site}: its hook never fired; call the model inside the block"
            )
        if expect_change and not tap.changed:
            raise ValueError(
                f"site {tap.site}: its activation was not changed; "
                "pass expect_change=False where that is meant"
            )


def read(
    model: nn.Module, chosen: str | Site | Iterable[str | Site], batch: Batch
) -> dict[Site, Tensor]:
    """Activations of one batch at sites, without touching the forward pass.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites.
        batch: what the model takes.

    Returns:
        Site to activation; the shapes are those of `sites.KINDS`, where an indexed head of a
        pattern and an indexed unit keep their axis with length 1.

    Raises:
        ValueError: for sites that match nothing or a model in training mode.
    """
    resolved = sites.resolve(model, chosen)
    kept: dict[Site, Tensor] = {}

    def keep(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        kept[site] = tensor.detach().clone()
        return tensor

    with torch.no_grad(), editing(model, resolved, keep, expect_change=False):
        call(model, batch)
    return kept


def mean_activations(
    model: nn.Module,
    chosen: str | Site | Iterable[str | Site],
    reference: Any,
    chunk: int = 16,
) -> dict[Site, Tensor]:
    """Mean activation over a reference set at each site, position by position; streamed.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites.
        reference: examples, as `batches` takes them, all of one token length.
        chunk: examples at once.

    Returns:
        Site to mean, shape (1, ...) of the site's activation, in the model's floating type; sums
        are kept in float64.

    Raises:
        ValueError: if the reference set is empty.
    """
    resolved = sites.resolve(model, chosen)
    sums: dict[Site, Tensor] = {}
    n = 0

    def add(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        total = tensor.sum(0, keepdim=True, dtype=torch.float64)
        sums[site] = total if site not in sums else sums[site] + total
        return tensor

    with torch.no_grad():
        for rows, batch in batches(reference, chunk, model):
            with editing(model, resolved, add, expect_change=False):
                call(model, batch)
            n += len(rows)
    if n == 0:
        raise ValueError("reference holds no example; allowed is at least one")
    dtype = next(model.parameters()).dtype
    return {site: (total / n).to(dtype) for site, total in sums.items()}


def as_sources(model: nn.Module, chosen: list[Site], source: Any) -> Mapping[Site, Tensor]:
    """Source activations: a mapping from sites (or their names) as given, or read from inputs."""
    if isinstance(source, Mapping) and all("." in str(key) for key in source):
        named = {str(key): value for key, value in source.items()}
        missing = [str(site) for site in chosen if str(site) not in named]
        if missing:
            raise ValueError(f"source lacks site {missing[0]}; allowed is every patched site")
        return {site: named[str(site)] for site in chosen}
    pieces = [read(model, chosen, batch) for _, batch in batches(source, 16, model)]
    return {site: torch.cat([piece[site] for piece in pieces]) for site in chosen}
