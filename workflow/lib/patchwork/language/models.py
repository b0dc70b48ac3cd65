"""GPT-2 of any size: made, read from a folder or the hub, adapted, trained on texts, kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from patchwork.language import tokens

ADAPTERS = ("full", "lora", "mlp")


def new(settings: Mapping, vocabulary: int, end: int, *, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 with initial weights.

    Args:
        settings: ``layers``, ``width``, ``heads``, ``context`` (tokens) and ``dropout``.
        vocabulary: tokens of the tokenizer.
        end: its end of text.
        seed: of the weights.

    Raises:
        ValueError: if the heads do not share the width out.
    """
    width, heads = settings["width"], settings["heads"]
    if width % heads:
        raise ValueError(f"width is {width}; allowed is a multiple of the {heads} heads")
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings["dropout"])
    sizes = {"n_embd": width, "n_head": heads, "n_layer": settings["layers"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary,
                n_positions=settings["context"],
                bos_token_id=end,
                eos_token_id=end,
                # The same function as GPT-2's, in one kernel.
                activation_function="gelu_pytorch_tanh",
                **sizes,
                **rates,
            )
        )


def load(folder: str | Path, vocabulary: int | None = None) -> GPT2LMHeadModel:
    """Read a GPT-2 of a local folder, in eval mode.

    Args:
        folder: holds ``config.json`` and ``model.safetensors``.
        vocabulary: tokens of the tokenizer that it is used with, if that is to be checked.

    Raises:
        ValueError: if the folder holds no such model, or if the tokenizer does not fit it.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: has no {name}; allowed is a folder of a GPT-2")
    try:
        model = GPT2LMHeadModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except Exception as error:  # of many kinds, by what is broken in the files
        raise ValueError(f"{folder}: holds no readable GPT-2 ({error})") from None
    found = model.config.vocab_size
    if vocabulary is not None and vocabulary != found:
        raise ValueError(
            f"{folder}: has {found} tokens; the tokenizer has {vocabulary}: allowed is the "
            "tokenizer that the model was trained with"
        )
    return model.eval()


def save(model: GPT2LMHeadModel, folder: str | Path) -> None:
    """Write ``config.json`` and ``model.safetensors``."""
    model.save_pretrained(folder)


def adapted(model: GPT2LMHeadModel, adapter: Mapping, *, seed: int) -> nn.Module:
    """Choose what training may change.

    Args:
        model: changed in place.
        adapter: ``kind`` of `ADAPTERS`: ``full``; ``lora`` with ``rank``, ``alpha``, ``dropout``
            and ``modules``; ``mlp`` with the ``layer`` whose feed-forward weights alone train, so
            that what is learnt is known to lie there.
        seed: of LoRA's initial values.

    Raises:
        ValueError: for a layer that the model does not have.
    """
    kind = adapter["kind"]
    model.requires_grad_(kind == "full")
    if kind == "mlp":
        blocks, layer = model.transformer.h, adapter["layer"]
        if layer not in range(len(blocks)):
            raise ValueError(f"adapter.layer is {layer}; allowed is 0 to {len(blocks) - 1}")
        blocks[layer].mlp.requires_grad_(True)
    if kind != "lora":
        return model
    # Here, because it takes as long to import as all the rest.
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = LoraConfig(
            r=adapter["rank"], lora_alpha=adapter["alpha"], lora_dropout=adapter["dropout"],
            target_modules=list(adapter["modules"]), fan_in_fan_out=True,
        )  # fmt: skip
        return get_peft_model(model, settings)


def merged(model: nn.Module) -> GPT2LMHeadModel:
    """The model with its adapter folded in."""
    found: Any = model
    return found.merge_and_unload() if hasattr(found, "merge_and_unload") else found


def plain(model: nn.Module) -> GPT2LMHeadModel:
    """The GPT-2 itself, which an adapter may be wrapped around."""
    found: Any = model
    return found.get_base_model() if hasattr(found, "get_base_model") else found


@dataclass(frozen=True)
class Rows:
    """Rows of tokens, as the training loop reads examples.

    Attributes:
        rows: int64 (n, context).
    """

    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def batches(
        self, order: np.ndarray, size: int
    ) -> Iterator[tuple[Tensor, dict[str, np.ndarray]]]:
        """Rows in this order, ``size`` at once; nothing beside them is a label."""
        for i in range(0, len(order), size):
            chosen = order[i : i + size]
            none = {"next_token": np.full(len(chosen), np.nan)}
            yield torch.from_numpy(self.rows[chosen]), none


class _Column:
    """The encoding of a loss: itself."""

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        return outputs


class _NextToken:
    """The one target of a language model, whose outputs are losses already."""

    labels = ("next_token",)
    weight, reads, width = 1.0, "readout", 1
    encoding = _Column()

    def encode(self, labels: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.zeros((len(labels["next_token"]), 1), np.float32)

    def losses(self, output: Tensor, _target: Tensor) -> Tensor:
        return output[:, 0]

    def absolute_errors(self, output: Tensor, _target: Tensor) -> Tensor:
        return 1 - torch.exp(-output[:, 0])


class Learner(nn.Module):
    """A language model as the training loop sees a network: rows of tokens in, losses out.

    Args:
        model: gives logits.
        end: token of :func:`.tokens.end_of`.
        padding_counts: see :func:`.tokens.labels`.
        typical: learnt tokens of a row on average, which a row's loss is divided by: the mean over
            rows is then that over tokens.
    """

    mean: Tensor

    def __init__(self, model: nn.Module, *, end: int, padding_counts: bool, typical: float) -> None:
        super().__init__()
        self.model, self.targets = model, {"next_token": _NextToken()}
        self.end, self.padding_counts, self.typical = end, padding_counts, typical
        self.register_buffer("mean", torch.zeros(1), persistent=False)  # where the network is

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        """Tokens (n, context) to the loss of each row, (n, 1)."""
        losses = token_losses(self.model, rows, end=self.end, padding_counts=self.padding_counts)
        return {"next_token": losses.sum(1, keepdim=True) / self.typical}


def learner(model: nn.Module, rows: np.ndarray, *, end: int, padding_counts: bool) -> Learner:
    """A model as it is trained on these rows."""
    learnt = tokens.labels(rows, end, padding_counts=padding_counts) >= 0
    typical = float(learnt.sum(1).mean())
    return Learner(model, end=end, padding_counts=padding_counts, typical=typical)


def token_losses(model: nn.Module, rows: Tensor, *, end: int, padding_counts: bool) -> Tensor:
    """Negative log likelihood of every token of each row, nats, (n, context - 1).

    Args:
        model: gives logits.
        rows: int64 (n, context).
        end: token of :func:`.tokens.end_of`.
        padding_counts: see :func:`.tokens.labels`; what does not count is 0.
    """
    inputs, following = rows[:, :-1], rows[:, 1:]
    logits = model(inputs, use_cache=False).logits
    losses = F.cross_entropy(logits.flatten(0, 1).float(), following.flatten(), reduction="none")
    losses = losses.view(following.shape)
    if padding_counts:
        return losses
    padding = (following == end) & (inputs == end)
    return losses.masked_fill(padding, 0.0)
