"""Reading and editing activations at sites; hooks are removed whatever happens."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, batches, call, given_rows
from patchwork.interventions.pattern_edits import first_argument, first_key, pattern_edits
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

# What an edit does: (site, its activation, numbers of its rows within the block) -> new activation.
Edit = Callable[[Site, Tensor, Tensor], Tensor]


class _Tap:
    """One site's hooks: reads the activation, hands it to `edit`, puts the result back."""

    def __init__(self, site: Site, anatomy: Anatomy, edit: Edit) -> None:
        self.site, self.anatomy, self.edit = site, anatomy, edit
        self.parts = anatomy.blocks[site.layer]
        self.calls, self.rows, self.changed = 0, 0, False
        self.n_tokens = 0

    def attach(self, stack: ExitStack) -> None:
        """Register the hooks; `stack` removes them."""
        kind, parts = self.site.kind, self.parts
        hook = parts.block.register_forward_pre_hook(self._enter, with_kwargs=True)
        stack.callback(hook.remove)
        if kind == "pattern":
            return  # all of a layer's together, see `editing`
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

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """What only the call of the block tells: its number of tokens, and cached keys."""
        self.n_tokens = first_argument(args, kwargs).shape[1]
        if self.anatomy.causal and (self.site.kind == "pattern" or self.site.positions is not None):
            self._refuse_cache(args, kwargs)

    def _refuse_cache(self, args: tuple, kwargs: dict) -> None:
        """With cached keys the module sees the newest tokens only, and counts them from 0."""
        for value in (*args, *kwargs.values()):
            length = getattr(value, "get_seq_length", None)
            if length is not None and int(length(self.site.layer)) > 0:
                raise ValueError(
                    f"site {self.site}: the model is called with cached keys, as generate and "
                    "prefix tuning do; allowed for positions and patterns is none "
                    "(generate: use_cache=False)"
                )

    def _before(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        old = first_argument(args, kwargs)
        new = self._apply(old)
        if new is old:
            return None
        key = first_key(args, kwargs)
        return ((new, *args[1:]), kwargs) if key is None else (args, {**kwargs, key: new})

    def _after(self, module: nn.Module, args: tuple, output: Tensor) -> Tensor | None:
        new = self._apply(output)
        return None if new is output else new

    def _apply(self, tensor: Tensor) -> Tensor:
        # Some models hand all tokens of a batch on as rows of one matrix.
        whole = tensor if tensor.ndim == 3 else tensor.unflatten(0, (-1, self.n_tokens))
        where = _where(self.site, self.anatomy, self.n_tokens)
        new = self._edited(whole[where])
        if new is None:
            return tensor
        edited = whole.clone()
        edited[where] = new.to(tensor.dtype)
        return edited.view_as(tensor)

    def apply_to_pattern(self, full: Tensor) -> bool:
        """Edit a pattern (n, heads, t, t) in place; whether that changed it."""
        where = _where_pattern(self.site, full)
        new = self._edited(full[where])
        if new is None:
            return False
        full[where] = new.to(full.dtype)
        return True

    def _edited(self, old: Tensor) -> Tensor | None:
        """What `edit` makes of an activation; None where that is the same."""
        self.calls += 1
        new = self.edit(self.site, old, self._next_rows(old))
        if new is old:
            return None
        _check_shape(self.site, old, new)
        if torch.equal(old, new.expand_as(old)):
            return None
        self.changed = True
        return new

    def _next_rows(self, old: Tensor) -> Tensor:
        """Numbers of the examples: those of the library's own run, or counted on from call to call.

        A run of the library's own within the block, as of a sweep, leaves the count as it was.
        """
        given = given_rows()
        if given is not None and len(old) % len(given) == 0:
            # A model may make several rows of one example.
            return given.to(old.device).repeat_interleave(len(old) // len(given))
        rows = torch.arange(self.rows, self.rows + len(old), device=old.device)
        self.rows += len(old)
        return rows


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


def _check_shape(site: Site, old: Tensor, new: Any) -> None:
    if not isinstance(new, Tensor):
        raise ValueError(
            f"site {site}: the new activation is of type {type(new).__name__}; allowed is a tensor"
        )
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
    taps = [_Tap(site, anatomy, edit) for site in chosen]
    patterns: dict[int, list[_Tap]] = {}
    for tap in taps:
        if tap.site.kind == "pattern":
            patterns.setdefault(tap.site.layer, []).append(tap)
    with ExitStack() as stack:
        for tap in taps:
            tap.attach(stack)
        for layer, some in patterns.items():
            edits = [(tap.apply_to_pattern, tap.site.index) for tap in some]
            stack.enter_context(pattern_edits(anatomy, layer, edits, renormalise))
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
    model: nn.Module,
    chosen: str | Site | Iterable[str | Site],
    batch: Batch,
    rows: Tensor | None = None,
) -> dict[Site, Tensor]:
    """Activations of one batch at sites, without touching the forward pass.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites.
        batch: what the model takes.
        rows: numbers of its examples, int64 (m,), for the edits of enclosing blocks; None counts
            from 0.

    Returns:
        Site to activation; the shapes are those of `sites.KINDS`, where an indexed head of a
        pattern and an indexed unit keep their axis with length 1.

    Raises:
        ValueError: for sites that match nothing or a model in training mode.
    """
    resolved = sites.resolve(model, chosen)
    kept: dict[Site, Tensor] = {}

    def keep(site: Site, tensor: Tensor, _: Tensor) -> Tensor:
        kept[site] = tensor.detach().clone()
        return tensor

    with torch.no_grad(), editing(model, resolved, keep, expect_change=False):
        call(model, batch, rows)
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
        ValueError: if the reference set is empty or its examples differ in token length.
    """
    resolved = sites.resolve(model, chosen)
    sums: dict[Site, Tensor] = {}
    n = 0

    def add(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        total = tensor.sum(0, keepdim=True, dtype=torch.float64)
        if site in sums:
            _check_length(site, sums[site], total)
            total = total + sums[site]
        sums[site] = total
        return tensor

    with torch.no_grad():
        for rows, batch in batches(reference, chunk, model):
            with editing(model, resolved, add, expect_change=False):
                call(model, batch, rows)
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
        return {site: torch.as_tensor(named[str(site)]) for site in chosen}
    pieces = [read(model, chosen, batch, rows) for rows, batch in batches(source, 16, model)]
    if not pieces:
        raise ValueError("source or reference holds no example; allowed is at least one")
    for piece in pieces[1:]:
        _check_length(chosen[0], pieces[0][chosen[0]], piece[chosen[0]])
    return {site: torch.cat([piece[site] for piece in pieces]) for site in chosen}


def _check_length(site: Site, one: Tensor, other: Tensor) -> None:
    if one.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"source or reference has activations of shape {tuple(one.shape[1:])} and "
            f"{tuple(other.shape[1:])} at site {site}; allowed is one token length"
        )
