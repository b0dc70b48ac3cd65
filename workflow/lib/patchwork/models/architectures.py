"""The architecture table: finding the transformer in a model, and where its parts are.

Nothing else in the library knows an architecture. A trunk is recognised by the names of its
modules. Names alone do not say what is computed between them, so a timm trunk is checked by the
classes of its blocks and a Hugging Face trunk by its model type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from patchwork.models.families import hugging_face, timm_vit
from patchwork.models.families.parts import Anatomy, BlockParts, refuse

__all__ = ["FAMILIES", "Anatomy", "BlockParts", "Family", "find"]


@dataclass(frozen=True)
class Family:
    """One row of the architecture table.

    Args:
        modules: paths from the trunk to modules (or methods) by which it is recognised.
        read: the anatomy of such a trunk.
        model_types: `config.model_type` of the Hugging Face models that compute what `read` says;
            None where the trunk is not Hugging Face's.
    """

    modules: tuple[str, ...]
    read: Callable[[Any], Anatomy]
    model_types: tuple[str, ...] | None = None


FAMILIES: dict[str, Family] = {
    "timm ViT": Family(("patch_embed", "blocks.0", "forward_features"), timm_vit.vit),
    **{
        name: Family(row.modules, partial(hugging_face.read, name), tuple(row.n_prefix))
        for name, row in hugging_face.ROWS.items()
    },
    "Hugging Face ViT (old module names)": Family(
        ("embeddings", "encoder.layer.0.attention.attention", "layernorm"),
        hugging_face.old_vit,
        ("vit",),
    ),
    "GPT-2": Family(("wte", "wpe", "h.0.attn.c_attn"), hugging_face.gpt2, ("gpt2",)),
}


def _n_reached(module: nn.Module, path: str) -> int:
    """How many names of a path lead on from a module; a 0 is the first of a list of modules."""
    part: object = module
    for i, name in enumerate(path.split(".")):
        if name == "0":
            listed = isinstance(part, nn.Sequential | nn.ModuleList) and len(part) > 0
            part = part[0] if listed else None  # type: ignore[index]
        else:
            part = getattr(part, name, None)
        if part is None:
            return i
    return path.count(".") + 1


def _lacks(module: nn.Module, path: str) -> str | None:
    """The part of a path up to the first name that a module does not have; None if it has all."""
    names, n = path.split("."), _n_reached(module, path)
    if n == len(names):
        return None
    # A list of modules is named by its first, so that the line says it must be a list.
    return ".".join(names[: n + 2 if names[n + 1 : n + 2] == ["0"] else n + 1])


def _recognised(module: nn.Module, family: Family) -> bool:
    return not any(_lacks(module, path) for path in family.modules)


def _nearest(model: nn.Module) -> str:
    """What the module that comes nearest to a family lacks, in words."""
    own = _model_type(model)
    if own is not None and not any(own in (row.model_types or ()) for row in FAMILIES.values()):
        return f"model type {own} stands in no row of the table"

    def share(module: nn.Module, family: Family) -> float:
        parts = [_n_reached(module, path) / (path.count(".") + 1) for path in family.modules]
        return sum(parts) / len(parts)

    pairs = [(module, name) for module in model.modules() for name in FAMILIES]
    module, name = max(pairs, key=lambda pair: share(pair[0], FAMILIES[pair[1]]))
    if share(module, FAMILIES[name]) == 0:
        return "no module of any family is in it"
    paths = FAMILIES[name].modules
    missing = [lack for path in paths if (lack := _lacks(module, path)) is not None]
    verb = "is" if len(missing) == 1 else "are"
    return f"nearest is {name}, but {', '.join(missing)} {verb} missing"


def _model_type(module: nn.Module) -> str | None:
    own = getattr(getattr(module, "config", None), "model_type", None)
    return own if isinstance(own, str) else None


def _check_model_type(trunk: nn.Module, name: str) -> None:
    allowed, own = FAMILIES[name].model_types, _model_type(trunk)
    if allowed is not None and own not in allowed:
        what = f"{type(trunk).__name__} ({f'model type {own}' if own else 'no model type'})"
        missing = f"its modules are named as in {name}; allowed there is model type "
        raise refuse(what, missing + ", ".join(allowed))


def find(model: nn.Module) -> Anatomy:
    """Find the one supported transformer in a model, however deeply it is wrapped.

    Args:
        model: a timm or Hugging Face model, a peft wrapper of one, or any module that holds
            exactly one of them.

    Returns:
        Where its parts are.

    Raises:
        ValueError: if the model holds no supported transformer, more than one, one of another
            model type, or one with an operation that the vocabulary cannot express; the line
            names it and what is missing.
    """
    found = [
        (name, module)
        for module in model.modules()
        for name, family in FAMILIES.items()
        if _recognised(module, family)
    ]
    # A wrapper that hands attributes through looks like its content: the innermost counts.
    candidates = {id(module) for _, module in found}
    found = [
        (name, module)
        for name, module in found
        if not any(id(part) in candidates for part in module.modules() if part is not module)
    ]
    n_trunks = len({id(module) for _, module in found})
    if n_trunks != 1:
        problem = f"{n_trunks} transformers"
        if n_trunks == 0:
            problem = f"no supported transformer: {_nearest(model)}"
        allowed = ", ".join(FAMILIES)
        raise ValueError(
            f"model: {type(model).__name__} holds {problem}; allowed is one of {allowed}"
        )
    trunk, names = found[0][1], [name for name, _ in found]
    own = [name for name in names if _model_type(trunk) in (FAMILIES[name].model_types or ())]
    name = (own or names)[0]
    _check_model_type(trunk, name)
    return FAMILIES[name].read(trunk)
