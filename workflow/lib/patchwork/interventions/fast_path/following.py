"""Whether a fast path follows a model: what can be known beforehand, and what is tried."""

from collections.abc import Mapping
from inspect import isroutine
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, call, first_rows, parameter_of
from patchwork.interventions.readout import Metric, ModelTail, Readout, agree, main_outputs, score
from patchwork.interventions.sweeps.plan import Plan
from patchwork.models.sites import Anatomy

# Their forward does the same to every example, so that the first tells of all.
_ALIKE = (
    "timm.models.vision_transformer.VisionTransformer",
    "transformers.models.vit.modeling_vit.ViTModel",
    "transformers.models.vit.modeling_vit.ViTForImageClassification",
)
_ONLOOKERS = "transformers.utils.output_capturing"
_PADDED = "padded inputs: the fast path knows no attention mask"


class Unfit(Exception):  # noqa: N818 (leads to the plain path; no error)
    """The fast path does not hold; the message is the reason that the metadata give."""


def require_fast(model: nn.Module, anatomy: Anatomy, inputs: Any, plan: Plan) -> None:
    """Leave for the plain path where that can be known beforehand.

    Raises:
        Unfit: with the reason.
    """
    like = parameter_of(model)
    if plan.path == "plain":
        raise Unfit("asked for")
    require_unpadded(inputs)
    if torch.finfo(like.dtype).bits < 32 or torch.is_autocast_enabled(like.device.type):
        raise Unfit("numbers of 16 bits: a difference of the fast path would drown in rounding")
    if len({id(parts.block) for parts in anatomy.blocks}) < anatomy.n_layers:
        raise Unfit("one module is several blocks")
    if any(_hooks(module) for parts in anatomy.blocks for module in parts.block.modules()):
        raise Unfit("hooks in the model's blocks, by an enclosing intervention or your own")
    if getattr(getattr(model, "config", None), "reorder_and_upcast_attn", False):
        raise Unfit("attention in another precision than the model's (reorder_and_upcast_attn)")


def _hooks(module: nn.Module) -> list[Any]:
    """Hooks on a module but those by which Transformers only looks on."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return [x for x in hooks if getattr(x, "__module__", "") != _ONLOOKERS]


def treats_examples_alike(model: nn.Module) -> bool:
    """Whether a model is of a published class as published: no method replaced, no hooks."""
    own = f"{type(model).__module__}.{type(model).__name__}"
    replaced = any(isroutine(value) for value in vars(model).values())
    return own in _ALIKE and not replaced and not any(_hooks(part) for part in model.modules())


def require_unpadded(inputs: Any) -> None:
    """Leave for the plain path where a mapping of inputs masks any token.

    Raises:
        Unfit: if it does.
    """
    if isinstance(inputs, Mapping) and not bool(
        torch.as_tensor(inputs.get("attention_mask", 1)).all()
    ):
        raise Unfit(_PADDED)


# What running a part of a model alone may end in; all of it leads to the plain path.
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AttributeError)


class Follower:
    """The read-out of a sweep, compared with the model's own results in every piece.

    The model itself is run on each piece; one of a class that is known to treat examples alike
    only on the first example, and again where the number of tokens changes. Its last block must
    give the fast path's final stream, and what follows must give the model's outputs from that
    stream: a metric may be too coarse or too small to show a difference.

    Args:
        model: whose results count.
        anatomy: of the model.
        metric: of the sweep.
        plan: of the sweep, for its tail.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, metric: Metric, plan: Plan) -> None:
        self.model, self.anatomy, self.metric, self.plan = model, anatomy, metric, plan
        self.deviation, self.n_tokens, self.read = 0.0, 0, set[str]()
        self.readout: Readout | None = None
        self.alike = treats_examples_alike(model)

    def readout_for(self, batch: Batch, rows: Tensor, final: Tensor) -> Readout:
        """The read-out for a piece with the final stream (n, t, d), checked on it.

        Raises:
            Unfit: if its clean results differ from the model's own by more than rounding.
            ValueError: if the metric does not give one number for each example.
        """
        self.check(batch, rows, final)
        assert self.readout is not None
        self.readout.find_row(final, rows)
        row = self.readout.row
        self.read.add("all tokens" if row is None else f"token {row}")
        return self.readout

    def check(self, batch: Batch, rows: Tensor, final: Tensor) -> None:
        """Compare a piece's clean results alone; raises as `readout_for`."""
        require_unpadded(batch)
        is_new = self.readout is None or self.n_tokens != final.shape[1]
        if self.alike and not is_new:
            return
        if self.alike:
            batch, rows, final = first_rows(batch, 1), rows[:1], final[:1]
        output, own_final = self._run(batch)
        own = score(self.metric, output, rows)
        try:
            _compare_streams(own_final, final)
            if is_new:
                tail, self.n_tokens = self.plan.tail, final.shape[1]
                self.readout = Readout(self.model, self.anatomy, self.metric, batch, tail)
            assert self.readout is not None
            outputs_agree = self._compare_outputs(self.readout, main_outputs(output), final)
            self._compare(own, self.readout(final, rows), outputs_agree or self.readout.two_rows)
        except _FAILURES as error:
            raise Unfit(
                f"what follows the blocks cannot be run alone ({type(error).__name__})"
            ) from error

    def _run(self, batch: Batch) -> tuple[Any, Tensor]:
        """The model's output and the final stream."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handle = self.anatomy.blocks[-1].block.register_forward_hook(keep)
        try:
            output = call(self.model, batch)
        finally:
            handle.remove()
        if len(kept) != 1:
            raise Unfit(f"the model computes more than its blocks (the last one {len(kept)} times)")
        return output, kept[0]

    def _compare(self, own: Tensor, fast: Tensor, is_known: bool) -> None:
        """Compare the metric; without anything else that agrees, relative to its own size."""
        if not bool(own.isfinite().all()):
            raise Unfit("the metric of the clean run is not finite")
        off = (own - fast).abs()
        self.deviation = max(self.deviation, float(off.max()))
        scale = 1 + own.abs() if is_known else own.abs().max()
        if not bool((off <= 1e3 * torch.finfo(own.dtype).eps * scale).all()):
            raise Unfit(f"the model computes more than its blocks (by {self.deviation:.1e})")

    def _compare_outputs(self, readout: Readout, own: list[Tensor], final: Tensor) -> bool:
        """Compare what the model makes of the final stream; False where another tail does."""
        if readout.two_rows or not isinstance(readout.tail, ModelTail):
            return False
        # Two rows at least, so that one that belongs to one example alone is told.
        stream = final if len(final) > 1 else final.repeat(2, 1, 1)
        fast = main_outputs(readout.tail(stream))
        if not (
            all(len(x) == len(stream) for x in fast) and agree(own, [x[: len(final)] for x in fast])
        ):
            raise Unfit("the model computes more than its blocks (its outputs differ)")
        return True


def _compare_streams(own: Tensor, fast: Tensor) -> None:
    off, size = (own - fast).norm(dim=-1), own.norm(dim=-1)
    if not bool((off <= 500 * torch.finfo(own.dtype).eps * size).all()):
        raise Unfit(f"the model computes more than its blocks (by {float(off.max()):.1e})")
