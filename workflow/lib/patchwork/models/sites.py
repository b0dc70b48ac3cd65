"""One vocabulary of sites for every supported transformer; `architectures` finds their parts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from numbers import Integral

from torch import nn

from patchwork.models.architectures import FAMILIES, Anatomy, BlockParts, find

__all__ = [
    "FAMILIES",
    "KINDS",
    "Anatomy",
    "BlockParts",
    "Site",
    "find",
    "parse",
    "require_eval",
    "resolve",
]

KINDS = {
    "resid_pre": "residual stream before a block, (n, t, d)",
    "resid_post": "residual stream after a block, (n, t, d)",
    "q": "one head's queries before any rotation, (n, t, d_head)",
    "k": "one head's keys before any rotation, (n, t, d_head)",
    "v": "one head's values, (n, t, d_head)",
    "attn_out": "output of the attention's projection, before any LayerScale, (n, t, d)",
    "mlp_out": "output of the MLP's second layer, before any LayerScale, (n, t, d)",
    "head_out": "one head's vector at the input of the output projection, (n, t, d_head)",
    "mlp_hidden": "one MLP unit after the activation function, (n, t, 1)",
    "pattern": "one head's attention after the softmax, (n, 1, query, key)",
}
_INDEXED = ("head_out", "q", "k", "v", "mlp_hidden", "pattern")
_GRAMMAR = re.compile(
    r"(?P<layer>\*|\d+)\.(?P<kind>[a-z_]+)(?:\.(?P<index>\*|\d+))?"
    r"(?:@(?P<positions>-?\d+(?:,-?\d+)*))?(?:<-(?P<keys>-?\d+(?:,-?\d+)*))?"
)


@dataclass(frozen=True)
class Site:
    """A place in a transformer whose activation can be read, ablated or patched.

    Args:
        kind: a key of `KINDS`.
        layer: block, counted from 0.
        index: head (`head_out`, `pattern`) or unit (`mlp_hidden`); None is all of them.
        positions: tokens (`pattern`: queries), counted from 0, or from the end as -1, -2, ...;
            None is all of them.
        keys: only for `pattern`: the attended tokens, likewise; None is all of them.
    """

    kind: str
    layer: int
    index: int | None = None
    positions: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None

    def __str__(self) -> str:
        text = f"{self.layer}.{self.kind}" + ("" if self.index is None else f".{self.index}")
        if self.positions is not None:
            text += "@" + ",".join(map(str, self.positions))
        return text + ("" if self.keys is None else "<-" + ",".join(map(str, self.keys)))


def require_eval(model: nn.Module) -> None:
    """Refuse a model with any part in training mode (dropout would drown an effect) or not here.

    Raises:
        ValueError: if a module of the model is in training mode, or weights are on no device.
    """
    for name, module in model.named_modules():
        if module.training:
            what = f"{name} ({type(module).__name__})" if name else type(module).__name__
            raise ValueError(f"model: {what} is in training mode; call model.eval()")
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise ValueError(
                f"model: {name} has no values here (device meta: offloaded, or never loaded); "
                "allowed is a model in the memory of one device"
            )


def parse(text: str, anatomy: Anatomy) -> list[Site]:
    """Read one site name: `layer.kind[.index][@positions][<-keys]`, with `*` for every one.

    `3.head_out.5` is a head, `3.head_out` all heads of a layer together, `*.head_out.*` each
    head apart, `0.resid_pre@4` one token, `0.resid_pre@-1` the last, `2.pattern.1@0<-3,4` the
    attention of token 0 to tokens 3 and 4.

    Raises:
        ValueError: if the name does not follow the grammar or matches nothing.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(
            f"site {text!r} matches nothing; allowed is layer.kind[.index][@positions][<-keys]"
        )
    site = Site(match["kind"], 0, None, _numbers(match["positions"]), _numbers(match["keys"]))
    _check_kind(site, text)
    layers = range(anatomy.n_layers) if match["layer"] == "*" else [int(match["layer"])]
    if match["index"] == "*":
        indices: Iterable[int | None] = range(_n_index(site.kind, anatomy))
    else:
        indices = [None if match["index"] is None else int(match["index"])]
    return [replace(site, layer=layer, index=index) for layer in layers for index in indices]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(int(part) for part in text.split(","))


def _n_index(kind: str, anatomy: Anatomy) -> int:
    if kind not in _INDEXED:
        allowed = ", ".join(_INDEXED)
        raise ValueError(f"site kind {kind} has no index; allowed with one is {allowed}")
    return anatomy.d_hidden if kind == "mlp_hidden" else anatomy.n_heads


def _check_kind(site: Site, name: str) -> None:
    if site.kind not in KINDS:
        raise ValueError(f"site {name!r}: kind {site.kind!r}; allowed is {', '.join(KINDS)}")


def _whole(number: object) -> bool:
    """Whether something is a whole number, also NumPy's; True and False are none."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def _check_types(site: Site) -> None:
    # Named by its repr: a site of wrong types may have no name in the grammar.
    if not isinstance(site.kind, str):
        raise ValueError(f"{site!r}: kind {site.kind!r}; allowed is {', '.join(KINDS)}")
    if not _whole(site.layer):
        raise ValueError(f"{site!r}: layer {site.layer!r}; allowed is a whole number from 0")
    if not (site.index is None or _whole(site.index)):
        raise ValueError(
            f"{site!r}: index {site.index!r}; allowed is a whole number from 0 or None"
        )
    for noun, tokens in (("positions", site.positions), ("keys", site.keys)):
        if tokens is None:
            continue
        if not (isinstance(tokens, tuple) and tokens and all(map(_whole, tokens))):
            raise ValueError(
                f"{site!r}: {noun} {tokens!r}; allowed is a tuple of whole numbers or None"
            )


def _check(site: Site, anatomy: Anatomy) -> None:
    _check_types(site)
    _check_kind(site, str(site))
    if not 0 <= site.layer < anatomy.n_layers:
        raise ValueError(f"site {site}: layer {site.layer}; allowed is 0 to {anatomy.n_layers - 1}")
    if site.index is not None:
        n = _n_index(site.kind, anatomy)
        if not 0 <= site.index < n:
            noun = "unit" if site.kind == "mlp_hidden" else "head"
            raise ValueError(f"site {site}: {noun} {site.index}; allowed is 0 to {n - 1}")
    if site.keys is not None and site.kind != "pattern":
        raise ValueError(f"site {site}: keys are for kind pattern; allowed here is None")


def resolve(
    model: nn.Module, sites: str | Site | Iterable[str | Site], anatomy: Anatomy | None = None
) -> list[Site]:
    """Turn site names into checked sites, each once, in the order given.

    Args:
        model: any supported model.
        sites: one name or `Site`, or several; see `parse` for the names.
        anatomy: what `find(model)` gave, to save finding it again.

    Raises:
        ValueError: if nothing is named, a name matches nothing, a number is out of range, or
            something is neither a name nor a `Site` of the types that its docstring gives.
    """
    anatomy = anatomy or find(model)
    several: Iterable[str | Site] = [sites] if isinstance(sites, str | Site) else sites
    if not isinstance(several, Iterable):
        raise ValueError(f"sites: {sites!r}; allowed is a name, a Site, or several of them")
    resolved: list[Site] = []
    for site in several:
        if not isinstance(site, str | Site):
            raise ValueError(f"sites: {site!r}; allowed is a name or a Site")
        resolved += [site] if isinstance(site, Site) else parse(site, anatomy)
    if not resolved:
        raise ValueError("sites: none named; allowed is at least one")
    for site in resolved:
        _check(site, anatomy)
    return list(dict.fromkeys(resolved))


def refuse_overlap(chosen: Iterable[Site]) -> None:
    """Refuse sites that share a place: what is there would depend on their order.

    Raises:
        ValueError: naming two that do.
    """
    several: dict[tuple[str, int], dict[int | None, list[Site]]] = {}
    for site in chosen:
        by_index = several.setdefault((site.kind, site.layer), {})
        whole = by_index.get(None, [])
        others = [x for some in by_index.values() for x in some] if site.index is None else whole
        for other in {*others, *by_index.get(site.index, [])}:
            if _meet(site.positions, other.positions) and _meet(site.keys, other.keys):
                raise ValueError(f"sites {other} and {site} overlap; allowed is each place once")
        by_index.setdefault(site.index, []).append(site)


def _meet(one: tuple[int, ...] | None, other: tuple[int, ...] | None) -> bool:
    return one is None or other is None or not set(one).isdisjoint(other)
