"""From the final residual stream to the metric, through the model's own norm, pooling and head."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from patchwork.interventions.batches import Batch, call
from patchwork.sites import Anatomy

# (output of the model, row numbers of the examples, int64 (m,)) -> one number each, (m,).
Metric = Callable[[Any, Tensor], Tensor]
# Final residual stream (m, rows, d) -> what the model returns for it.
Tail = Callable[[Tensor], Any]


@dataclass(frozen=True)
class LogitDifference:
    """Logit of a right minus that of a wrong token at the last position.

    Args:
        right: shape (n,), token of each example.
        wrong: shape (n,), likewise.
    """

    right: Tensor
    wrong: Tensor

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        """The difference for the examples `rows`, from the model's whole output."""
        logits = (output.logits if hasattr(output, "logits") else output)[:, -1]
        return _pick(logits, self.right, rows) - _pick(logits, self.wrong, rows)

    def from_hidden(self, model: nn.Module, hidden: Tensor, rows: Tensor) -> Tensor:
        """The same from normed final states (m, d): two rows of the unembedding, not all."""
        unembedding = cast(Any, model).get_output_embeddings()
        weight = unembedding.weight
        right, wrong = (token.to(hidden.device)[rows] for token in (self.right, self.wrong))
        difference = (hidden * (weight[right] - weight[wrong])).sum(-1)
        if unembedding.bias is not None:
            difference = difference + unembedding.bias[right] - unembedding.bias[wrong]
        return difference


def _pick(logits: Tensor, tokens: Tensor, rows: Tensor) -> Tensor:
    return logits.gather(1, tokens.to(logits.device)[rows][:, None])[:, 0]


class _FirstBlockReached(Exception):  # noqa: N818 (ends a pass; no error)
    """Ends a forward pass once the first block's input is known."""

    def __init__(self, stream: Tensor) -> None:
        super().__init__()
        self.stream = stream


def embed(model: nn.Module, anatomy: Anatomy, batch: Batch) -> Tensor:
    """Residual stream before the first block, (m, t, d)."""

    def stop(module: nn.Module, args: tuple, kwargs: dict) -> None:
        raise _FirstBlockReached(args[0] if args else next(iter(kwargs.values())))

    handle = anatomy.blocks[0].block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        call(model, batch)
    except _FirstBlockReached as stopped:
        return stopped.stream
    finally:
        handle.remove()
    raise AssertionError("the model never called its first block")


@contextmanager
def _bypassed(anatomy: Anatomy, stream: Tensor, as_tuple: bool) -> Iterator[None]:
    """Make the blocks return `stream`, so that a call of the model computes only what follows."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (stream,) if as_tuple else stream

    with ExitStack() as stack:
        for parts in anatomy.blocks:
            # An attribute of the instance hides the method of its class until it is deleted.
            previous = parts.block.__dict__.get("forward")
            object.__setattr__(parts.block, "forward", forward)
            stack.callback(_restore, parts.block, previous)
        yield


def _restore(block: nn.Module, previous: Any) -> None:
    if previous is None:
        object.__delattr__(block, "forward")
    else:
        object.__setattr__(block, "forward", previous)


class ModelTail:
    """The model itself with its blocks bypassed: right for every wrapper and every read-out."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, batch: Batch) -> None:
        self.model, self.anatomy = model, anatomy
        one = {k: v[:1] for k, v in batch.items()} if isinstance(batch, dict) else batch[:1]
        # Older Hugging Face blocks return a tuple and their callers expect one.
        block = anatomy.blocks[0].block
        self.example, self.as_tuple = one, isinstance(block(embed(model, anatomy, one)), tuple)

    def __call__(self, stream: Tensor) -> Any:
        """The model's output for a final residual stream (m, rows, d)."""
        example = self.example
        if self.anatomy.causal:
            # Text models reshape to the length of their input, so that must agree.
            n_rows = stream.shape[1]
            example = (
                {k: v[:, :n_rows] for k, v in example.items()}
                if isinstance(example, dict)
                else example[:, :n_rows]
            )
        with _bypassed(self.anatomy, stream, self.as_tuple):
            return call(self.model, example)


class Readout:
    """Metric of final residual streams, from one row of them where that is all it depends on."""

    def __init__(
        self, model: nn.Module, anatomy: Anatomy, metric: Metric, batch: Batch, tail: Tail | None
    ) -> None:
        self.model, self.anatomy, self.metric = model, anatomy, metric
        self.two_rows = isinstance(metric, LogitDifference) and tail is None
        self.tail = tail or ModelTail(model, anatomy, batch)
        self.row: int | None = None

    def __call__(self, stream: Tensor, rows: Tensor) -> Tensor:
        """Metric (m,) of streams (m, t or 1, d) for the examples `rows`."""
        if self.two_rows:
            norm = cast(nn.Module, self.anatomy.trunk.ln_f)
            hidden = norm(stream[:, -1])
            return cast(LogitDifference, self.metric).from_hidden(self.model, hidden, rows)
        return self.metric(self.tail(stream), rows)

    def find_row(self, stream: Tensor, rows: Tensor) -> None:
        """Set `row` to the one token that the metric reads, if there is one; found by trying.

        CLS (or the last token) alone must give the metric and the outputs of the whole stream,
        for this stream and for noise in its place.
        """
        candidate = stream.shape[1] - 1 if self.anatomy.causal else 0
        one = slice(candidate, candidate + 1)
        generator = torch.Generator(stream.device).manual_seed(0)
        noise = torch.empty_like(stream).normal_(generator=generator)
        try:
            same = all(
                _agree(self._leaves(trial, rows), self._leaves(trial[:, one], rows))
                for trial in (stream, noise)
            )
        except (RuntimeError, IndexError, ValueError):
            same = False
        self.row = candidate if same else None

    def _leaves(self, stream: Tensor, rows: Tensor) -> list[Tensor]:
        if self.two_rows:
            return [self(stream, rows)]
        output = self.tail(stream)
        leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        return [self.metric(output, rows), *(x for x in leaves if x.is_floating_point())]


def _agree(whole: list[Tensor], alone: list[Tensor]) -> bool:
    """Whether tensors agree up to kernel choice; outputs of another shape are per-token ones."""
    for a, b in zip(whole, alone, strict=True):
        if a is not whole[0] and a.shape != b.shape:
            continue
        scale = float(a.abs().max()) + 1e-30
        tolerance = 1e3 * torch.finfo(a.dtype).eps * scale
        if a.shape != b.shape or not float((a - b).abs().max()) <= tolerance:
            return False
    return True
