"""Whether a fast path follows a model: what can be known beforehand, and what is tried."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from patchwork.interventions.batches import Batch, call, parameter_of
from patchwork.interventions.plan import Plan
from patchwork.interventions.tail import (
    Metric,
    ModelTail,
    Readout,
    Tail,
    agree,
    main_outputs,
    score,
)
from patchwork.sites import Anatomy

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
    if any(
        module._forward_hooks or module._forward_pre_hooks
        for parts in anatomy.blocks
        for module in parts.block.modules()
    ):
        raise Unfit("hooks in the model's blocks, by an enclosing intervention or your own")
    if getattr(getattr(model, "config", None), "reorder_and_upcast_attn", False):
        raise Unfit("attention in another precision than the model's (reorder_and_upcast_attn)")


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
    """The read-out of a sweep, compared with the model's own results as pieces come.

    Whatever a model's forward does outside its blocks, norm and head shows in the first example;
    what it does to single examples, such as a mask of its own for text, only in every one.

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
        every = self.anatomy.causal or isinstance(batch, dict)
        first = self.readout is None or self.n_tokens != final.shape[1]
        if not (first or every):
            return
        n = len(rows) if every else 1
        some = {k: v[:n] for k, v in batch.items()} if isinstance(batch, dict) else batch[:n]
        output = call(self.model, some)
        own = score(self.metric, output, rows[:n])
        try:
            if first:
                self.readout, self.n_tokens = self._new(batch), final.shape[1]
            assert self.readout is not None
            self._compare(own, self.readout(final[:n], rows[:n]))
            if first and not self.readout.two_rows:
                self._compare_outputs(self.readout.tail, main_outputs(output), final)
        except _FAILURES as error:
            raise Unfit(
                f"what follows the blocks cannot be run alone ({type(error).__name__})"
            ) from error

    def _new(self, batch: Batch) -> Readout:
        return Readout(self.model, self.anatomy, self.metric, batch, self.plan.tail)

    def _compare(self, own: Tensor, fast: Tensor) -> None:
        if not bool(own.isfinite().all()):
            raise Unfit("the metric of the clean run is not finite")
        off = (own - fast).abs()
        self.deviation = max(self.deviation, float(off.max()))
        if not bool((off <= 1e3 * torch.finfo(own.dtype).eps * (1 + own.abs())).all()):
            raise Unfit(f"the model computes more than its blocks (by {self.deviation:.1e})")

    def _compare_outputs(self, tail: Tail, own: list[Tensor], final: Tensor) -> None:
        """A metric may be too coarse to show a difference; the outputs are not."""
        if not isinstance(tail, ModelTail):
            return
        if not agree([x[:1] for x in own], main_outputs(tail(final[:1]))):
            raise Unfit("the model computes more than its blocks (its outputs differ)")
        if not tail.ignores_inputs(final[:1]):
            raise Unfit("the model reads its inputs again after its blocks")
