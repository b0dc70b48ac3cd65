"""Relevance patching: propagation coefficients in the place of gradients."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.direct import frozen_norm
from patchwork.interventions.fast_path import kernels
from patchwork.interventions.pattern_edits import AttentionInputs, attention_inputs
from patchwork.models.sites import Anatomy, BlockParts


@contextmanager
def relevance_rules(model: nn.Module, anatomy: Anatomy) -> Iterator[None]:
    """Runs of the model in the block give the same values; their gradients are those of RelP.

    Norms are linear at the scale that they have (LN rule), attention at its pattern (AH rule); an
    activation function f is multiplication by f(x) / x (identity rule); of a product in a gated MLP
    each factor gets half (half rule).

    Args:
        model: a supported model in eval mode.
        anatomy: of it.

    Raises:
        ValueError: for an MLP that is neither two linear layers around an activation function nor
            gated by `gate_proj` and `up_proj`, or a norm of another kind.

    Source:
        Jafari, Eberle, Khakzar, Nanda 2025, RelP: Faithful and Efficient Circuit Discovery in
        Language Models via Relevance Patching; Ali et al. 2022, XAI for Transformers (LN and AH).
    """
    with ExitStack() as stack:
        norms = {id(x): x for x in model.modules() if _is_norm(x)}
        for parts in anatomy.blocks:
            for norm in (parts.attn_norm, parts.mlp_norm):
                if id(norm) not in norms:
                    raise ValueError(
                        f"relp: norm is a {type(norm).__name__}; allowed is LayerNorm or RMSNorm"
                    )
        for norm in norms.values():
            stack.callback(norm.register_forward_hook(_at_its_scale).remove)
        for parts in anatomy.blocks:
            _Attention(parts, anatomy.causal, stack)
            _Mlp(parts, stack)
        yield


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def _with_gradient_of(value: Tensor, path: Tensor) -> Tensor:
    """The value to the bit, and for gradients the path, which gives it up to rounding."""
    return value.detach() + (path - path.detach()).to(value.dtype)


def _at_its_scale(norm: nn.Module, args: tuple, output: Tensor) -> Tensor:
    x = args[0]
    with torch.no_grad():
        linear = frozen_norm(norm, x, output)
    return _with_gradient_of(output, linear(x))


class _Attention:
    """Heads as their values times a pattern that has no gradient."""

    def __init__(self, parts: BlockParts, causal: bool, stack: ExitStack) -> None:
        self.parts, self.causal = parts, causal
        self.given: AttentionInputs | None = None
        handles = [
            parts.attn.register_forward_pre_hook(self._remember, with_kwargs=True),
            parts.proj.register_forward_pre_hook(self._before),
        ]
        for handle in handles:
            stack.callback(handle.remove)

    def _remember(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self.given = attention_inputs(args, kwargs)

    def _before(self, module: nn.Module, args: tuple) -> tuple:
        assert self.given is not None, "attention was not called before its projection"
        given, self.given = self.given, None
        with torch.no_grad():
            pattern, _ = kernels.pattern(
                self.parts, given.normed, self.causal or given.causal, given.mask, given.rotation
            )
        heads = pattern @ self.parts.qkv(given.normed)[2]
        path = heads.transpose(1, 2).flatten(-2).view_as(args[0])
        return (_with_gradient_of(args[0], path), *args[1:])


class _Mlp:
    """An activation function as multiplication by what it gives over what it is given."""

    def __init__(self, parts: BlockParts, stack: ExitStack) -> None:
        self.kept: dict[str, Tensor] = {}
        mlp: Any = parts.mlp
        is_module = isinstance(mlp, nn.Module)
        normed = is_module and any(_is_norm(x) for x in mlp.modules())
        first: dict[str, Any] = {}
        if parts.mlp_first is not None and not normed:
            first = {"into": parts.mlp_first}
        elif is_module and not normed and all(hasattr(mlp, x) for x in ("gate_proj", "up_proj")):
            first, self.act = {"gate": mlp.gate_proj, "up": mlp.up_proj}, mlp.act_fn
        else:
            raise ValueError(
                f"relp: the MLP is a {type(mlp).__name__ if is_module else 'function'}; allowed is "
                "two linear layers around an activation function, or gate_proj and up_proj"
            )
        for name, module in first.items():
            stack.callback(module.register_forward_hook(self._keep(name)).remove)
        stack.callback(parts.mlp_last.register_forward_pre_hook(self._before).remove)

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            self.kept[name] = output

        return hook

    def _before(self, module: nn.Module, args: tuple) -> tuple:
        hidden, kept = args[0], self.kept
        if "into" in kept:
            path = kept["into"] * _ratio(hidden, kept["into"])
        else:
            gate, up = kept["gate"], kept["up"]
            with torch.no_grad():
                factor = _ratio(self.act(gate), gate)
            gated = gate * factor
            path = (gated * up.detach() + gated.detach() * up) / 2
        self.kept = {}
        return (_with_gradient_of(hidden, path), *args[1:])


def _ratio(output: Tensor, given: Tensor) -> Tensor:
    """f(x) / x without a gradient; 0 where x is 0."""
    output, given = output.detach(), given.detach()
    return torch.where(given == 0, 0.0, output / given)
