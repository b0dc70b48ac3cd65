"""Weights inside ONNX graphs under the names of timm."""

import math
import re

import numpy as np
import torch
from torch import Tensor

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")
_PATCHES = "embeddings.patch_embeddings.projection"
# How the exporter begins the names of values that are no parameter as it stands.
_COMPUTED = "onnx::"


class _Graph:
    """Initial values of a graph: those with a name of the model, and those of its products."""

    def __init__(self, content: bytes) -> None:
        # Here, because only a conversion needs it.
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper

        try:
            graph = onnx.load_from_string(content).graph
        except DecodeError as error:
            raise ValueError(f"the model is not a readable ONNX file ({error})") from error
        self.arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        # The exporter names a linear layer's product after the module, and not its weight.
        self.products = {
            node.name: self.arrays[node.input[1]]
            for node in graph.node
            if node.op_type == "MatMul" and node.input[1] in self.arrays
        }
        classes = [name for name in self.arrays if name.endswith("embeddings.cls_token")]
        if len(classes) != 1:
            raise ValueError(f"the model has {len(classes)} class tokens; allowed is one")
        self.prefix = classes[0].removesuffix("embeddings.cls_token")

    def named(self, name: str) -> Tensor:
        """The value of this name, below the prefix that all share."""
        if self.prefix + name not in self.arrays:
            raise ValueError(f"the model lacks {self.prefix}{name}")
        return torch.tensor(self.arrays[self.prefix + name])

    def product(self, module: str) -> Tensor:
        """The weight (outputs, inputs) of a module's product, which the graph holds transposed."""
        part = f"/{module.replace('layer.', 'layer#').replace('.', '/').replace('#', '.')}/MatMul"
        found = [value for name, value in self.products.items() if name.endswith(part)]
        if len(found) != 1:
            raise ValueError(f"the model has {len(found)} products named *{part}; allowed is one")
        return torch.tensor(found[0].T.copy())

    def positions(self, width: int) -> Tensor:
        """Position of the class token and of a square of patches, (1, 1 + n, width)."""
        found = sorted(
            (value for name, value in self.arrays.items()
             if name.startswith(_COMPUTED) and value.ndim == 3 and value.shape[::2] == (1, width)),
            key=lambda value: value.shape[1],
        )  # fmt: skip
        sizes = [value.shape[1] for value in found]
        if len(sizes) != 2 or sizes[0] != 1 or math.isqrt(sizes[1]) ** 2 != sizes[1]:
            raise ValueError(
                f"the model has positions of {sizes} tokens; allowed are the class token's and a "
                "square's"
            )
        return torch.tensor(np.concatenate(found, axis=1))


def dinov2_state(content: bytes) -> dict[str, Tensor]:
    """State dict of timm's DINOv2 inside an ONNX export of the one of Transformers.

    Args:
        content: an ONNX file, exported from ``Dinov2Model`` or a model around it, with the plain
            MLP, whose positions were resampled from a square while it was traced.

    Returns:
        Tensors by the names of timm's ``vit_*_patch14_dinov2``; positions as they were stored.

    Raises:
        ValueError: naming what the graph lacks.
    """
    graph = _Graph(content)
    state = {
        "cls_token": graph.named("embeddings.cls_token"),
        "patch_embed.proj.weight": graph.named(f"{_PATCHES}.weight"),
        "patch_embed.proj.bias": graph.named(f"{_PATCHES}.bias"),
        "norm.weight": graph.named("layernorm.weight"),
        "norm.bias": graph.named("layernorm.bias"),
    }
    state["pos_embed"] = graph.positions(state["cls_token"].shape[-1])
    numbers = {int(found[1]) for name in graph.arrays if (found := _LAYER.search(name))}
    for i in range(len(numbers)):
        here = f"encoder.layer.{i}"
        heads = [f"{here}.attention.attention.{one}" for one in ("query", "key", "value")]
        block = {
            "attn.qkv.weight": torch.cat([graph.product(head) for head in heads]),
            "attn.qkv.bias": torch.cat([graph.named(f"{head}.bias") for head in heads]),
            "attn.proj.weight": graph.product(f"{here}.attention.output.dense"),
            "attn.proj.bias": graph.named(f"{here}.attention.output.dense.bias"),
            "ls1.gamma": graph.named(f"{here}.layer_scale1.lambda1"),
            "ls2.gamma": graph.named(f"{here}.layer_scale2.lambda1"),
        }
        for part in ("mlp.fc1", "mlp.fc2"):
            block[f"{part}.weight"] = graph.product(f"{here}.{part}")
            block[f"{part}.bias"] = graph.named(f"{here}.{part}.bias")
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            block[part] = graph.named(f"{here}.{part}")
        state |= {f"blocks.{i}.{name}": tensor for name, tensor in block.items()}
    return state
