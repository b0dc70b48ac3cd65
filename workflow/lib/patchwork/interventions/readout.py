"""From the final residual stream to the metric, through the model's own norm, pooling and head."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from patchwork.interventions.batches import Batch, call, first_rows
from patchwork.interventions.pattern_edits import first_argument, rotation_of
from patchwork.models.families.parts import Rotation
from patchwork.models.sites import Anatomy

# (output of the model, row numbers of the examples, int64 (m,)) -> one number each, (m,).
Metric = Callable[[Any, Tensor], Tensor]


def score(metric: Metric, output: Any, rows: Tensor) -> Tensor:
    """Metric of a model's output, float32 or float64; yes and no count as 1 and 0.

    Raises:
        ValueError: if the metric does not give a tensor with one number for each of `rows`.
    """
    return one_each(metric(output, rows), rows)


def one_each(value: Any, rows: Tensor) -> Tensor:
    """A metric's numbers, checked as for `score`."""
    if isinstance(value, Tensor) and value.ndim == 0 and len(rows) == 1:
        value = value[None]
    if not isinstance(value, Tensor) or value.shape != rows.shape:
        is_tensor = isinstance(value, Tensor)
        what = f"shape {tuple(value.shape)}" if is_tensor else f"type {type(value).__name__}"
        raise ValueError(
            f"metric gave {what} for {len(rows)} examples; "
            f"allowed is a tensor of shape ({len(rows)},)"
        )
    return value if value.dtype in (torch.float32, torch.float64) else value.float()


def main_outputs(output: Any) -> list[Tensor]:
    """The tensors of a model's output that depend on its last block, caches left out."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(output, name, None), Tensor):
            return [getattr(output, name)]
    return [x for x in tree_leaves(output) if isinstance(x, Tensor) and x.is_floating_point()]


@dataclass(frozen=True)
class LogitDifference:
    """Logit of a right minus that of a wrong token at the last position.

    Args:
        right: shape (n,), token of each example.
        wrong: shape (n,), likewise.

    Raises:
        ValueError: if the two are not whole numbers of one shape (n,).
    """

    right: Tensor
    wrong: Tensor

    def __post_init__(self) -> None:
        for name in ("right", "wrong"):
            tokens = torch.as_tensor(getattr(self, name))
            if tokens.ndim != 1 or tokens.is_floating_point() or len(tokens) != len(self.right):
                raise ValueError(
                    f"{name} is {tokens.dtype} of shape {tuple(tokens.shape)}; allowed is "
                    f"one whole number for each example, shape ({len(self.right)},)"
                )
            object.__setattr__(self, name, tokens)

    def __call__(self, output: Any, rows: Tensor) -> Tensor:
        """The difference for the examples `rows`, from the model's whole output."""
        logits = output.logits if hasattr(output, "logits") else output
        if not isinstance(logits, Tensor) or logits.ndim != 3:
            raise ValueError(
                f"metric LogitDifference got a {type(output).__name__}; "
                "allowed is an output with logits of shape (m, t, vocabulary)"
            )
        right, wrong = self._tokens(rows, logits.shape[-1])
        last = logits[:, -1]
        return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None]))[:, 0]

    def from_hidden(self, model: nn.Module, hidden: Tensor, rows: Tensor) -> Tensor:
        """The same from normed final states (m, d): two rows of the unembedding, not all."""
        unembedding = unembedding_of(model)
        assert unembedding is not None
        weight = unembedding.weight
        right, wrong = self._tokens(rows, len(weight))
        difference = (hidden * (weight[right] - weight[wrong])).sum(-1)
        if unembedding.bias is not None:
            difference = difference + unembedding.bias[right] - unembedding.bias[wrong]
        return difference

    def _tokens(self, rows: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
        n = len(self.right)
        if len(rows) and int(rows.max()) >= n:
            raise ValueError(f"right and wrong have {n} tokens; allowed is one for each example")
        both = torch.stack([self.right, self.wrong]).to(rows.device)[:, rows]
        if both.numel() and not 0 <= int(both.min()) <= int(both.max()) < vocabulary:
            raise ValueError(
                f"right or wrong holds token {int(both.max())} or {int(both.min())}; "
                f"allowed is 0 to {vocabulary - 1}"
            )
        return both[0], both[1]


def unembedding_of(model: nn.Module) -> Any:
    """The model's own unembedding with its weight; None where it names none."""
    get = getattr(model, "get_output_embeddings", None)
    return get() if callable(get) else None


class _FirstBlockReached(Exception):  # noqa: N818 (ends a pass; no error)
    """Ends a forward pass once the first block's input is known."""

    def __init__(self, start: "Start") -> None:
        super().__init__()
        self.start = start


class Start(NamedTuple):
    """What the first block is given: the stream (m, t, d), and rotary positions if any."""

    stream: Tensor
    rotation: Rotation | None


def embed(model: nn.Module, anatomy: Anatomy, batch: Batch) -> Start:
    """Run a model up to its first block."""

    def stop(module: nn.Module, args: tuple, kwargs: dict) -> None:
        raise _FirstBlockReached(Start(first_argument(args, kwargs), rotation_of(kwargs)))

    handle = anatomy.blocks[0].block.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        call(model, batch)
    except _FirstBlockReached as stopped:
        return stopped.start
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


class ModelReadout:
    """The model itself with its blocks bypassed: right for every wrapper and every read-out."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, batch: Batch) -> None:
        self.model, self.anatomy = model, anatomy
        one = first_rows(batch, 1)
        self.example, self.as_tuple = one, _gives_tuple(model, anatomy, one)

    def __call__(self, stream: Tensor) -> Any:
        """The model's output for a final residual stream (m, rows, d)."""
        example = self.example
        if self.anatomy.causal:
            # Text models reshape to the length of their input, so that must agree.
            n_rows = stream.shape[1]
            cut = isinstance(example, dict)
            example = {k: v[:, :n_rows] for k, v in example.items()} if cut else example[:, :n_rows]
        with _bypassed(self.anatomy, stream, self.as_tuple):
            return call(self.model, example)


def _gives_tuple(model: nn.Module, anatomy: Anatomy, batch: Batch) -> bool:
    """Whether blocks return a tuple, as some of Hugging Face do: their callers expect one."""
    kinds: list[bool] = []

    def look(module: nn.Module, args: tuple, output: Any) -> None:
        kinds.append(isinstance(output, tuple))

    handle = anatomy.blocks[0].block.register_forward_hook(look)
    try:
        call(model, batch)
    finally:
        handle.remove()
    return kinds[0]


# Noise streams, at least, that must give the same from one token: a maximum over two tokens does
# so in half of them.
_N_NOISE = 16


class FinalMetric:
    """Metric of final residual streams, from one row of them where that is all it depends on."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, metric: Metric, batch: Batch) -> None:
        self.model, self.anatomy, self.metric = model, anatomy, metric
        # Two rows of the unembedding give a logit difference without the rest of the vocabulary.
        self.two_rows = (
            isinstance(metric, LogitDifference)
            and unembedding_of(model) is not None
            and anatomy.final_norm is not None
        )
        self.readout = ModelReadout(model, anatomy, batch)
        self.row: int | None = None

    def __call__(self, stream: Tensor, rows: Tensor) -> Tensor:
        """Metric (m,) of streams (m, t or 1, d) for the examples `rows`."""
        if self.two_rows:
            norm = cast(nn.Module, self.anatomy.final_norm)
            hidden = norm(stream[:, -1])
            metric = cast(LogitDifference, self.metric)
            return one_each(metric.from_hidden(self.model, hidden, rows), rows)
        return score(self.metric, self.readout(stream), rows)

    def cut(self, stream: Tensor) -> Tensor:
        """The rows of a stream (m, t, d) that the metric reads."""
        return stream if self.row is None else stream[:, [self.row]]

    def find_row(self, stream: Tensor, rows: Tensor) -> None:
        """Set `row` to the one token that the metric reads, if there is one; found by trying.

        CLS (or the last token) alone must give the metric and the outputs of the whole stream,
        for this stream and for noise in its place. A metric may read other tokens of other
        examples, so each piece is tried.
        """
        candidate = stream.shape[1] - 1 if self.anatomy.causal else 0
        self.row = None
        try:
            self._try_row(candidate, stream, rows)
            generator = torch.Generator(stream.device).manual_seed(0)
            several = -(-_N_NOISE // len(rows))
            noise = stream.new_empty(several * len(rows), *stream.shape[1:])
            noise.normal_(generator=generator)
            self._try_row(candidate, noise, rows.repeat(several))
        except (RuntimeError, IndexError, ValueError):
            return
        self.row = candidate

    def _try_row(self, row: int, stream: Tensor, rows: Tensor) -> None:
        """Raise ValueError if one token gives something else than the whole stream."""
        whole, alone = self._leaves(stream, rows), self._leaves(stream[:, [row]], rows)
        per_token = any(a.shape != b.shape for a, b in zip(whole, alone, strict=True))
        # A metric that counts may agree by chance, where no output beside it has to agree.
        counts = bool((whole[0] == whole[0].round()).all())
        if (per_token and counts) or not agree(whole, alone):
            raise ValueError(f"token {row} may not be all that the metric reads")

    def _leaves(self, stream: Tensor, rows: Tensor) -> list[Tensor]:
        if self.two_rows:
            return [self(stream, rows)]
        output = self.readout(stream)
        leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        return [score(self.metric, output, rows), *(x for x in leaves if x.is_floating_point())]


def agree(whole: list[Tensor], alone: list[Tensor]) -> bool:
    """Whether tensors agree up to kernel choice; outputs of another shape are per-token ones."""
    for a, b in zip(whole, alone, strict=True):
        if a is not whole[0] and a.shape != b.shape:
            continue
        scale = float(a.abs().max()) + 1e-30
        tolerance = 1e3 * torch.finfo(a.dtype).eps * scale
        if a.shape != b.shape or not float((a - b).abs().max()) <= tolerance:
            return False
    return True
