"""Reading and editing activations at sites; hooks are removed whatever happens."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, batches, call, eager, given_rows
from patchwork.interventions.pattern_edits import (
    RECOMPUTED,
    Attention,
    OpenBlock,
    first_argument,
    first_key,
    pattern_edits,
)
from patchwork.models import sites
from patchwork.models.sites import Anatomy, Site

# What an edit does: (site, its activation, numbers of its rows within the block) -> new activation.
Edit = Callable[[Site, Tensor, Tensor], Tensor]


class _Tap(OpenBlock):
    """One site's hooks: reads the activation, hands it to `edit`, puts the result back."""

    def __init__(self, site: Site, anatomy: Anatomy, edit: Edit) -> None:
        super().__init__()
        self.site, self.anatomy, self.edit = site, anatomy, edit
        self.parts = anatomy.blocks[site.layer]
        self.calls, self.rows, self.changed = 0, 0, False
        self.n_tokens = 0
        self.generation: Tensor | None = None

    def attach(self, stack: ExitStack) -> None:
        """Register the hooks; `stack` removes them."""
        kind, parts = self.site.kind, self.parts
        hook = parts.block.register_forward_pre_hook(self._enter, with_kwargs=True)
        stack.callback(hook.remove)
        if kind in RECOMPUTED:
            return  # all of a layer's together, see `editing`
        module = {
            "resid_pre": parts.block,
            "mlp_hidden": parts.mlp_last,
            "mlp_out": parts.mlp_last,
            "resid_post": parts.block,
        }.get(kind, parts.proj)
        if kind in ("attn_out", "mlp_out", "resid_post"):
            handle = module.register_forward_hook(self._after)
        else:
            handle = module.register_forward_pre_hook(self._before, with_kwargs=True)
        stack.callback(handle.remove)

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """What only the call of the block tells: its number of tokens, and cached keys."""
        self.check_thread(str(self.site))
        self.n_tokens = first_argument(args, kwargs).shape[1]
        if self.anatomy.causal and (
            self.site.kind in RECOMPUTED or self.site.positions is not None
        ):
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

    def _after(self, module: nn.Module, args: tuple, output: Any) -> Any:
        if isinstance(output, tuple):  # as some blocks of Hugging Face give it
            new = self._apply(output[0])
            return None if new is output[0] else (new, *output[1:])
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

    def apply_to_attention(self, made: Attention) -> bool:
        """Edit queries, keys or values, or the pattern, in place; whether that changed them."""
        if self.site.kind != "pattern":
            whole = getattr(made, self.site.kind).transpose(1, 2).flatten(-2)
            new = self._apply(whole)
            if new is not whole:
                changed = new.unflatten(-1, (self.anatomy.n_heads, -1)).transpose(1, 2)
                setattr(made, self.site.kind, changed)
            return new is not whole
        full = made.pattern
        where = _where_pattern(self.site, full)
        edited = self._edited(full[where])
        if edited is None:
            return False
        full[where] = edited.to(full.dtype)
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

        A run of the library's own within the block, as of a sweep, leaves the count as it was; all
        passes of one `generate` are of the same examples.
        """
        given = given_rows()
        if given is None:
            given = self.generation
        if given is not None and len(old) % len(given) == 0:
            # A model may make several rows of one example.
            return given.to(old.device).repeat_interleave(len(old) // len(given))
        rows = torch.arange(self.rows, self.rows + len(old), device=old.device)
        self.rows += len(old)
        return rows


def _where(site: Site, anatomy: Anatomy, n_tokens: int) -> tuple:
    """Index of a site's part of (n, t, columns); an indexed head or unit keeps its axis."""
    rows = slice(None) if site.positions is None else _tokens(site, site.positions, n_tokens)
    columns = slice(None)
    if site.index is not None:
        width = 1 if site.kind == "mlp_hidden" else anatomy.d_head
        columns = slice(site.index * width, (site.index + 1) * width)
    return (slice(None), rows, columns)


def _where_pattern(site: Site, full: Tensor) -> tuple:
    """Index of a site's part of a pattern (n, heads, queries, keys), all axes kept."""
    device, n, m = full.device, full.shape[2], full.shape[3]
    heads = range(full.shape[1]) if site.index is None else [site.index]
    queries = range(n) if site.positions is None else _tokens(site, site.positions, n)
    keys = range(m) if site.keys is None else _tokens(site, site.keys, m)
    axes = [torch.tensor(list(axis), device=device) for axis in (heads, queries, keys)]
    return (slice(None), axes[0][:, None, None], axes[1][:, None], axes[2])


def _tokens(site: Site, positions: tuple[int, ...], n_tokens: int) -> list[int]:
    """Positions counted from 0; those below 0 are counted from the end."""
    outside = [p for p in positions if not -n_tokens <= p < n_tokens]
    if outside:
        raise ValueError(
            f"site {site}: position {outside[0]}; allowed is 0 to {n_tokens - 1}, "
            f"or -1 to {-n_tokens} from the end"
        )
    return [p % n_tokens for p in positions]


def _check_shape(site: Site, old: Tensor, new: Any) -> None:
    if not isinstance(new, Tensor):
        raise ValueError(
            f"site {site}: the new activation is of type {type(new).__name__}; allowed is a tensor"
        )
    if new.shape[1:] != old.shape[1:] or new.shape[0] not in (1, old.shape[0]):
        raise ValueError(
            f"source of site {site} has shape {tuple(new.shape)}; allowed is {tuple(old.shape)}"
        )


class Block(AbstractContextManager):
    """A block of edits, which may be entered again after it was left."""

    def __init__(self, enter: Callable[[], AbstractContextManager[nn.Module]]) -> None:
        self.enter = enter
        self.open: list[AbstractContextManager[nn.Module]] = []

    def __enter__(self) -> nn.Module:
        block = self.enter()
        model = block.__enter__()
        self.open.append(block)
        return model

    def __exit__(self, *error: Any) -> bool | None:
        return self.open.pop().__exit__(*error)


def _number_generations(model: nn.Module, taps: list[_Tap], stack: ExitStack) -> None:
    """Tell taps the examples of a `generate`, which runs the model once for each new token."""

    def numbered(own: Callable) -> Callable:
        def generate(*args: Any, **kwargs: Any) -> Any:
            inputs = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
            if not inputs or taps[0].generation is not None:
                return own(*args, **kwargs)
            n = len(inputs[0])
            for tap in taps:
                tap.generation = torch.arange(tap.rows, tap.rows + n)
            try:
                return own(*args, **kwargs)
            finally:
                for tap in taps:
                    tap.generation, tap.rows = None, tap.rows + n

        return generate

    for module in model.modules():
        if hasattr(type(module), "generate"):
            previous = vars(module).get("generate")
            # An attribute of the instance hides the method of its class until it is deleted.
            object.__setattr__(module, "generate", numbered(cast(Any, module).generate))
            if previous is None:
                stack.callback(object.__delattr__, module, "generate")
            else:
                stack.callback(object.__setattr__, module, "generate", previous)


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
        if tap.site.kind in RECOMPUTED:
            patterns.setdefault(tap.site.layer, []).append(tap)
    with ExitStack() as stack:
        stack.enter_context(eager(model))
        _number_generations(model, taps, stack)
        for tap in taps:
            tap.attach(stack)
        for layer, some in patterns.items():
            edits = [(tap.site.kind, tap.apply_to_attention, tap.site.index) for tap in some]
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
    *,
    over_tokens: bool = False,
) -> dict[Site, Tensor]:
    """Mean activation over a reference set at each site; streamed.

    Tokens that an `attention_mask` among the inputs hides do not count. A position that no
    example has gets the mean over all others.

    Args:
        model: a supported model in eval mode.
        chosen: names or sites.
        reference: examples, as `batches` takes them; all of one token length, unless
            `over_tokens`.
        chunk: examples at once.
        over_tokens: whether the mean is taken over tokens too, and not position by position.

    Returns:
        Site to mean, shape (1, ...) of the site's activation (with `over_tokens` 1 token long), in
        the model's floating type; sums are kept in float64.

    Raises:
        ValueError: if the reference set is empty or its examples differ in token length.
    """
    resolved = sites.resolve(model, chosen)
    patterns = [site for site in resolved if site.kind == "pattern"]
    if over_tokens and patterns:
        raise ValueError(
            f"site {patterns[0]}: a mean over tokens; allowed for patterns is one by position"
        )
    sums: dict[Site, tuple[Tensor, Tensor]] = {}
    batch: Batch

    def add(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        shown = _shown(site, tensor, batch)
        over = (0, 1) if over_tokens else (0,)
        new = ((tensor.double() * shown).sum(over, keepdim=True), shown.sum(over, keepdim=True))
        if site in sums:
            _check_length(site, sums[site][0], new[0])
            new = (new[0] + sums[site][0], new[1] + sums[site][1])
        sums[site] = new
        return tensor

    with torch.no_grad():
        for rows, batch in batches(reference, chunk, model):
            with editing(model, resolved, add, expect_change=False):
                call(model, batch, rows)
    if not sums:
        raise ValueError("reference holds no example; allowed is at least one")
    dtype = next(model.parameters()).dtype
    return {site: _mean(site, *found).to(dtype) for site, found in sums.items()}


def _shown(site: Site, tensor: Tensor, batch: Batch) -> Tensor:
    """1 where a token of a site's activation counts and 0 where it is padding, broadcastable."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    axis = 2 if site.kind == "pattern" else 1
    if mask is None or mask.ndim != 2:
        shown = tensor.new_ones(tensor.shape[0], tensor.shape[axis], dtype=torch.float64)
    else:
        shown = mask.to(tensor.device, torch.float64)
        if site.positions is not None:
            shown = shown[:, list(site.positions)]
    shape = [1] * tensor.ndim
    shape[0], shape[axis] = shown.shape
    return shown.view(shape)


def _mean(site: Site, total: Tensor, count: Tensor) -> Tensor:
    axis = 2 if site.kind == "pattern" else 1
    everywhere = total.sum(axis, keepdim=True) / count.sum(axis, keepdim=True).clamp(min=1)
    return torch.where(count > 0, total / count.clamp(min=1), everywhere)


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
