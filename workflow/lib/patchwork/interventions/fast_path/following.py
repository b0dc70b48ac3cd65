"""Whether a fast path follows a model: what can be known beforehand, and what is tried."""

import warnings
from collections.abc import Mapping
from inspect import isroutine
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, call, first_rows, parameter_of
from patchwork.interventions.fast_path.kernels import weight_of
from patchwork.interventions.readout import FinalMetric, Metric, agree, main_outputs, score
from patchwork.interventions.sweeps.plan import Plan
from patchwork.models.families.parts import Rotation
from patchwork.models.sites import Anatomy

# Published classes whose forward does the same to every example: the first example stands for all.
_PUBLISHED = (
    "timm.models.vision_transformer.VisionTransformer",
    "transformers.models.vit.modeling_vit.ViTModel",
    "transformers.models.vit.modeling_vit.ViTForImageClassification",
)
# Hooks of this module record outputs and change nothing.
_RECORDING = "transformers.utils.output_capturing"
_PADDED = "padded inputs: the fast path knows no attention mask"


class NoFastPath(Exception):  # noqa: N818 (leads to the plain path; no error)
    """The fast path does not hold; the message is the reason that the metadata give."""


def require_fast(model: nn.Module, anatomy: Anatomy, inputs: Any, plan: Plan) -> None:
    """Leave for the plain path where that can be known beforehand.

    Raises:
        NoFastPath: with the reason.
    """
    like = parameter_of(model)
    if plan.path == "plain":
        raise NoFastPath('path is "plain"')
    require_unpadded(inputs)
    if not all(isinstance(weight_of(parts.proj), Tensor) for parts in anatomy.blocks):
        raise NoFastPath("quantised weights")
    if torch.finfo(like.dtype).bits < 32 or torch.is_autocast_enabled(like.device.type):
        raise NoFastPath("numbers of 16 bits: rounding would hide a difference of the fast path")
    if any(parts.order == "post" for parts in anatomy.blocks):
        raise NoFastPath("norms behind attention and MLP")
    if len({id(parts.block) for parts in anatomy.blocks}) < anatomy.n_layers:
        raise NoFastPath("one module is several blocks")
    if any(_hooks(module) for parts in anatomy.blocks for module in parts.block.modules()):
        raise NoFastPath("hooks in the model's blocks, by an enclosing intervention or your own")
    if getattr(getattr(model, "config", None), "reorder_and_upcast_attn", False):
        raise NoFastPath("attention in a precision of its own (reorder_and_upcast_attn)")


def _hooks(module: nn.Module) -> list[Any]:
    """Hooks on a module but those by which Transformers records outputs."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return [x for x in hooks if getattr(x, "__module__", "") != _RECORDING]


def is_published(model: nn.Module) -> bool:
    """Whether a model is of a published class as published: no method replaced, no hooks."""
    own = f"{type(model).__module__}.{type(model).__name__}"
    replaced = any(isroutine(value) for value in vars(model).values())
    return own in _PUBLISHED and not replaced and not any(_hooks(part) for part in model.modules())


def require_unpadded(inputs: Any) -> None:
    """Leave for the plain path where a mapping of inputs hides any token from any other.

    Raises:
        NoFastPath: if it does.
    """
    if not isinstance(inputs, Mapping):
        return
    if not bool(torch.as_tensor(inputs.get("attention_mask", 1)).all()):
        raise NoFastPath(_PADDED)
    if inputs.get("attn_mask") is not None:  # of timm
        raise NoFastPath("attn_mask: the fast path knows no attention mask")


def shared_rotation(rotation: Rotation | None) -> Rotation | None:
    """Angles of rotary positions (t, width) that all examples share.

    Raises:
        NoFastPath: if examples have positions of their own.
    """
    if rotation is None:
        return None
    flat = tuple(angles.flatten(0, -3) if angles.ndim > 2 else angles[None] for angles in rotation)
    if any(bool((angles != angles[:1]).any()) for angles in flat):
        raise NoFastPath("rotary positions that examples or heads do not share")
    return tuple(angles[0] for angles in flat)


def left_padding(anatomy: Anatomy, inputs: Any) -> str | None:
    """Why numbers of inputs padded on the left may not be meant, with a warning; None if unseen.

    Only models with a table of positions are asked: rotary positions are relative, and OPT counts
    from the mask.
    """
    batches = [inputs] if isinstance(inputs, Mapping) else inputs
    if not hasattr(anatomy.trunk, "wpe") or not isinstance(batches, list | tuple):
        return None
    for batch in batches:
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        if mask is None or "position_ids" in batch or bool(torch.as_tensor(mask)[:, 0].all()):
            continue
        reason = "padded on the left without position_ids: positions count the padding"
        warnings.warn(f"inputs are {reason}", stacklevel=3)
        return reason
    return None


# What running a part of a model alone may end in; all of it leads to the plain path.
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AttributeError)


class Follower:
    """The metric of final streams in a sweep, compared with the model's own in every piece.

    The model itself is run on each piece; a published class only on the first example, and again
    where the number of tokens changes. Its last block must
    give the fast path's final stream, and what follows must give the model's outputs from that
    stream: a metric may be too coarse or too small to show a difference.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, metric: Metric) -> None:
        self.model, self.anatomy, self.metric = model, anatomy, metric
        self.deviation, self.n_tokens, self.read = 0.0, 0, set[str]()
        self.final_metric: FinalMetric | None = None
        self.published = is_published(model)

    def metric_for(self, batch: Batch, rows: Tensor, final: Tensor) -> FinalMetric:
        """The metric for a piece with the final stream (n, t, d), checked on it.

        Raises:
            NoFastPath: if its clean results differ from the model's own by more than rounding.
            ValueError: if the metric does not give one number for each example.
        """
        self.check(batch, rows, final)
        assert self.final_metric is not None
        self.final_metric.find_row(final, rows)
        row = self.final_metric.row
        self.read.add("all tokens" if row is None else f"token {row}")
        return self.final_metric

    def check(self, batch: Batch, rows: Tensor, final: Tensor) -> None:
        """Compare a piece's clean results alone; raises as `metric_for`."""
        require_unpadded(batch)
        is_new = self.final_metric is None or self.n_tokens != final.shape[1]
        if self.published and not is_new:
            return
        if self.published:
            batch, rows, final = first_rows(batch, 1), rows[:1], final[:1]
        output, own_final = self._run(batch, rows)
        own = score(self.metric, output, rows)
        try:
            _compare_streams(own_final, final)
            if is_new:
                self.n_tokens = final.shape[1]
                self.final_metric = FinalMetric(self.model, self.anatomy, self.metric, batch)
            assert self.final_metric is not None
            if not self.final_metric.two_rows:
                _compare_outputs(self.final_metric, main_outputs(output), final)
            self._compare(own, self.final_metric(final, rows))
        except _FAILURES as error:
            raise NoFastPath(
                f"what follows the blocks cannot be run alone ({type(error).__name__})"
            ) from error

    def _run(self, batch: Batch, rows: Tensor) -> tuple[Any, Tensor]:
        """The model's output and the final stream."""
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: tuple, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        handle = self.anatomy.blocks[-1].block.register_forward_hook(keep)
        try:
            output = call(self.model, batch, rows)
        finally:
            handle.remove()
        if len(kept) != 1:
            raise NoFastPath(
                f"the model computes more than its blocks (the last one {len(kept)} times)"
            )
        return output, kept[0]

    def _compare(self, own: Tensor, fast: Tensor) -> None:
        """Compare the metric."""
        if not bool(own.isfinite().all()):
            raise NoFastPath("the metric of the clean run is not finite")
        off = (own - fast).abs()
        self.deviation = max(self.deviation, float(off.max()))
        if not bool((off <= 1e3 * torch.finfo(own.dtype).eps * (1 + own.abs())).all()):
            raise NoFastPath(f"the model computes more than its blocks (by {self.deviation:.1e})")


def _compare_outputs(final_metric: FinalMetric, own: list[Tensor], final: Tensor) -> None:
    """Compare what the model makes of the final stream, beside the metric, which may be coarse."""
    # Two rows at least, so that an output that belongs to one example alone is noticed.
    stream = final if len(final) > 1 else final.repeat(2, 1, 1)
    fast = main_outputs(final_metric.readout(stream))
    if not (
        all(len(x) == len(stream) for x in fast) and agree(own, [x[: len(final)] for x in fast])
    ):
        raise NoFastPath("the model computes more than its blocks (its outputs differ)")


def _compare_streams(own: Tensor, fast: Tensor) -> None:
    off, size = (own - fast).norm(dim=-1), own.norm(dim=-1)
    if not bool((off <= 500 * torch.finfo(own.dtype).eps * size).all()):
        raise NoFastPath(f"the model computes more than its blocks (by {float(off.max()):.1e})")
