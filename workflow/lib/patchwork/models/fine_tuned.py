"""A backbone with an optional adapter, a read-out and one head per target; saved and loaded."""

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from patchwork.data.tensors import read_tensors, write_tensors
from patchwork.jobs.provenance import from_metadata, settings_digest
from patchwork.models import backbones
from patchwork.models.tasks import ACTIVATIONS, Target, read_target

READOUTS = ("cls", "cls_before_norm", "mean")
ADAPTERS = ("none", "lora", "full")


class Network(nn.Module):
    """A vision transformer, a read-out of its tokens and one MLP head per target.

    Args:
        backbone: the encoder and its pixel statistics.
        targets: target name to :class:`patchwork.models.tasks.Target`.
        readout: ``cls`` (after the final norm), ``cls_before_norm``, or ``mean`` of patch tokens.
        hidden: widths of the heads' hidden layers.

    Attributes:
        frozen: whether the encoder is as its backbone was.
        kept: see :func:`share_vectors`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: "backbones.Backbone",
        targets: Mapping[str, Target],
        readout: str,
        hidden: list[int],
    ) -> None:
        super().__init__()
        if readout != "mean" and not backbone.encoder.has_class_token:
            raise ValueError(f"readout is {readout}, but the backbone has no class token; use mean")
        self.encoder: Any = backbone.encoder
        self.readout = readout
        self.targets = dict(targets)
        self.heads = nn.ModuleDict(
            {name: _head(backbone.width, hidden, target) for name, target in targets.items()}
        )
        # Read-out vectors of batches, by their pixels, of a frozen encoder that networks share.
        self.kept: dict[bytes, Tensor] | None = None
        self.frozen = False
        self.register_buffer("mean", torch.tensor(backbone.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std)[:, None, None], persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """Images uint8 (n, H, W, 3) to normalised pixels (n, 3, H, W), float32."""
        n, height, width, channels = images.shape
        # By whole rows: arithmetic that repeats after three numbers is not vectorised.
        mean, std = (value.flatten().repeat(width) for value in (self.mean, self.std))
        rows = (images.reshape(n, height, -1).float() / 255).sub_(mean).div_(std)
        return rows.view(n, height, width, channels).permute(0, 3, 1, 2)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (n, 3, H, W) to final tokens (n, tokens, width), class token first."""
        if self.readout == "cls_before_norm":
            return self._after_block(pixels, len(self.encoder.blocks) - 1)
        return self.encoder.forward_features(pixels)

    def _after_block(self, pixels: Tensor, block: int) -> Tensor:
        """Tokens (n, tokens, width) as a block leaves them."""
        ((patches, prefix),) = self.encoder.forward_intermediates(
            pixels, indices=[block], return_prefix_tokens=True, norm=False, stop_early=True,
            output_fmt="NLC", intermediates_only=True,
        )  # fmt: skip
        return torch.cat([prefix, patches], dim=1)

    def _class_token(self, pixels: Tensor) -> Tensor:
        """The read-out vector without the last block's work on tokens that nothing reads.

        Only for training: analyses hook whole blocks.
        """
        last = self.encoder.blocks[-1]
        tokens = self._after_block(pixels, len(self.encoder.blocks) - 2)
        attended = _attend_class(last.attn, last.norm1(tokens))
        vector = tokens[:, 0] + last.drop_path1(last.ls1(attended))
        vector = vector + last.drop_path2(last.ls2(last.mlp(last.norm2(vector))))
        return vector if self.readout == "cls_before_norm" else self.encoder.norm(vector)

    @property
    def _class_token_only(self) -> bool:
        """Whether heads read nothing but the class token of a plain pre-norm transformer."""
        blocks = self.encoder.blocks
        return (
            self.readout != "mean"
            and len(blocks) > 1
            and type(blocks[-1]) is Block
            and type(blocks[-1].attn) is Attention
            and blocks[-1].attn.gate is None
            and all(target.reads != "patches" for target in self.targets.values())
        )

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (n, 3, H, W) to the read-out vector (n, width)."""
        return self.read(self.tokens(pixels))

    def read(self, tokens: Tensor) -> Tensor:
        """Final tokens (n, tokens, width) to the read-out vector (n, width)."""
        if self.readout == "mean":
            return tokens[:, self.encoder.num_prefix_tokens :].mean(1)
        return tokens[:, 0]

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Predict every target.

        Args:
            inputs: uint8 images (n, H, W, 3), normalised pixels (n, 3, H, W), or read-out vectors
                (n, width) computed before (a frozen encoder gives the same ones every time).

        Returns:
            target name to (n, target width); to (n, patches, width) if the target reads patches.
        """
        if inputs.ndim == 2:
            vector, patches = inputs, None
        elif self.kept is not None and inputs.dtype == torch.uint8:
            vector, patches = self._remembered(inputs, self.kept), None
        else:
            pixels = self.pixels(inputs) if inputs.dtype == torch.uint8 else inputs
            if self.training and self._class_token_only:
                return self._predict(self._class_token(pixels), None)
            tokens = self.tokens(pixels)
            vector = self.read(tokens)
            patches = tokens[:, self.encoder.num_prefix_tokens :]
        return self._predict(vector, patches)

    def _remembered(self, images: Tensor, kept: dict[bytes, Tensor]) -> Tensor:
        """The read-out vectors of a batch, computed when it is seen first."""
        key = hashlib.blake2b(images.cpu().numpy().tobytes()).digest()
        if key not in kept:
            kept[key] = self.features(self.pixels(images))
        return kept[key]

    def _predict(self, vector: Tensor, patches: Tensor | None) -> dict[str, Tensor]:
        outputs = {}
        # In fp32 always: eight bits of a number between 0.5 and 1 are a quarter pixel of 64.
        with torch.autocast(vector.device.type, enabled=False):
            for name, head in self.heads.items():
                target = self.targets[name]
                read = cast(Tensor, patches if target.reads == "patches" else vector)
                outputs[name] = ACTIVATIONS[target.activation](head(read))
        return outputs


def _attend_class(attention: Attention, normed: Tensor) -> Tensor:
    """Output (n, width) of an ungated attention for the first token alone."""
    n, t, _ = normed.shape
    qkv = attention.qkv(normed).view(n, t, 3, attention.num_heads, attention.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q, k = attention.q_norm(q[:, :, :1]) * attention.scale, attention.k_norm(k)
    weights = attention.attn_drop((q @ k.transpose(-2, -1)).softmax(-1))
    heads = attention.norm((weights @ v).flatten(1))
    return attention.proj_drop(attention.proj(heads))


def _head(width: int, hidden: list[int], target: Target) -> nn.Sequential:
    if target.reads == "patches":
        return nn.Sequential(nn.Linear(width, target.width))
    sizes = [width, *hidden]
    layers: list[nn.Module] = []
    for left, right in pairwise(sizes):
        layers += [nn.Linear(left, right), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], target.width))


def build(
    backbone: "backbones.Backbone",
    targets: Mapping[str, Target],
    settings: Mapping,
    *,
    seed: int,
) -> Network:
    """Assemble a network whose trainable parameters are the adapter's and the heads'.

    Args:
        backbone: as loaded; the network takes it over.
        targets: target name to target.
        settings: ``readout``, ``head_hidden`` (widths) and ``adapter`` with ``kind`` (``none``:
            the encoder is frozen; ``lora``: peft LoRA with ``rank``, ``alpha``, ``dropout`` and
            ``modules``, names of attention projections; ``full``: everything trains).
        seed: of the heads' and the adapter's initial values.

    Raises:
        ValueError: for modules that match nothing, or a class token that the backbone lacks.
    """
    adapter = settings["adapter"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(backbone, targets, settings["readout"], settings["head_hidden"])
        network.frozen = adapter["kind"] == "none"
        network.encoder.requires_grad_(adapter["kind"] == "full")
        if settings["readout"] == "cls_before_norm":
            # Nothing reads this norm, so no gradient would ever reach it.
            network.encoder.norm.requires_grad_(False)
        if adapter["kind"] == "lora":
            network.encoder = _with_lora(network.encoder, adapter)
    return network


def _with_lora(encoder: nn.Module, adapter: Mapping) -> nn.Module:
    # Here, because it takes as long to import as all the rest: runs without LoRA do without it.
    from peft import LoraConfig, get_peft_model

    modules = rf".*attn\.({'|'.join(adapter['modules'])})"
    sizes = {"r": adapter["rank"], "lora_alpha": adapter["alpha"]}
    dropout = adapter["dropout"]
    return get_peft_model(
        encoder, LoraConfig(**sizes, lora_dropout=dropout, target_modules=modules)
    )


def merge(network: Network) -> Network:
    """Fold a LoRA adapter into the encoder's weights, in place, so that analyses see one ViT."""
    if hasattr(network.encoder, "merge_and_unload"):
        network.encoder = network.encoder.merge_and_unload()
    return network.eval()


def share_vectors(network: Network, kept: dict[bytes, Tensor]) -> None:
    """Let networks on one frozen encoder compute the read-out vectors of a batch once.

    Args:
        network: in eval mode, of whose encoder no parameter trains.
        kept: the same for all of these networks, at first empty.

    Raises:
        ValueError: if a target reads patch tokens.
    """
    if any(target.reads == "patches" for target in network.targets.values()):
        raise ValueError("a target reads patches; allowed are networks whose heads read a vector")
    network.kept = kept


def trainable(network: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def save(network: Network, record: Mapping[str, object], path: str | Path) -> None:
    """Write the trained parameters and the record that rebuilds the network around them.

    Args:
        network: after training.
        record: JSON-able; must hold ``settings`` and ``targets`` (configuration blocks),
            ``image_px`` and ``seed``; anything else is provenance.
        path: a ``.safetensors`` file.

    Raises:
        AssertionError: if the file does not give back every trainable parameter, bit for bit.
    """
    tensors = trainable(network)
    write_tensors(tensors, record, path)
    kept, _ = read_tensors(path)
    assert set(kept) == set(tensors), "saved parameters differ in name"
    for name, value in tensors.items():
        assert torch.equal(kept[name], value.cpu()), f"{name} did not load back"


def check_adapted(network: Network, kind: str) -> None:
    """Stop if the adapter of the protocol is not there or learnt nothing.

    LoRA's second factor starts at zero: one that is still zero was never trained.

    Raises:
        AssertionError: naming the parameter.
    """
    encoder = dict(network.encoder.named_parameters())
    trained = {name: p for name, p in encoder.items() if p.requires_grad}
    if kind == "none":
        assert not trained, f"{next(iter(trained))} of a frozen encoder is trainable"
        return
    assert trained, f"adapter {kind} left no parameter of the encoder trainable"
    if kind == "lora":
        assert all("lora_" in name for name in trained), "parameters beside the adapter train"
        for name, value in trained.items():
            assert bool(value.detach().abs().max() > 0), f"{name} is zero after training"


def load(path: str | Path, backbone_path: str | Path) -> Network:
    """Rebuild a saved network, its adapter merged, in eval mode.

    Args:
        path: written by :func:`save`.
        backbone_path: the backbone that it was trained on.

    Raises:
        ValueError: if the file is not such a model, or if it does not fit the backbone.
    """
    tensors, metadata = read_tensors(path)
    if not {"settings", "targets", "image_px"} <= set(metadata):
        raise ValueError(f"{path}: holds no network record; expected one written by fine_tune")
    backbone = backbones.load(backbone_path)
    try:
        record: Any = from_metadata(metadata)
        network = _rebuilt(record, backbone, tensors, backbone_path)
    except Exception as error:  # of many kinds, by what is broken in the record
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    network.load_state_dict(tensors, strict=False)
    return merge(network)


def _rebuilt(
    record: Any,
    backbone: backbones.Backbone,
    tensors: Mapping[str, Tensor],
    backbone_path: str | Path,
) -> Network:
    """The network around trained parameters, if they fit it."""
    origin = record.get("backbone", backbone.provenance)
    if settings_digest(origin) != settings_digest(backbone.provenance):
        raise ValueError(f"was trained on another backbone than {backbone_path}")
    settings, sizes = record["settings"], {n for one in tensors.values() for n in one.shape}
    for size in [*settings["head_hidden"], settings["adapter"].get("rank")]:
        if size is not None and size not in sizes:
            raise ValueError(f"its record has a layer of {size}; its parameters have none")
    targets = {
        name: read_target(block, record["image_px"]) for name, block in record["targets"].items()
    }
    network = build(backbone, targets, record["settings"], seed=0)
    expected = trainable(network)
    if set(expected) != set(tensors):
        odd = sorted(set(expected) ^ set(tensors))
        raise ValueError(f"{len(odd)} parameters do not fit the backbone, first {odd[0]}")
    for name, value in expected.items():
        if value.shape != tensors[name].shape:
            raise ValueError(
                f"{name} is {tuple(tensors[name].shape)}; the backbone expects {tuple(value.shape)}"
            )
    return network


@torch.no_grad()
def predict(network: Network, images: Tensor) -> dict[str, np.ndarray]:
    """Outputs for uint8 images (n, H, W, 3), each (n, width), float32, on the network's device."""
    device = network.mean.device
    return {name: out.float().cpu().numpy() for name, out in network(images.to(device)).items()}
