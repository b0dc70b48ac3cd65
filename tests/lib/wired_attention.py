"""A small ViT whose first layer's heads are wired to attend to colours, and its pictures."""

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

NAMES = ("ground", "mark", "frame")
PX, PATCH = 64, 8
GRID = PX // PATCH
WIDTH, HEADS = 24, 3
RED, GREEN = 0, 1
# What each head of the first layer attends to: the mark, nothing in particular, both.
ATTENDED = ((RED,), (), (RED, GREEN))


def vit(seed: int = 0) -> VisionTransformer:
    """Layer 0: a head on red, one that is uniform, one on red and green. Layer 1: random."""
    model = VisionTransformer(
        img_size=PX, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS, num_classes=1,
        mlp_ratio=1,
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        embed = model.patch_embed.proj
        embed.weight.zero_()
        for channel in (RED, GREEN):
            embed.weight[channel, channel] = 4 / PATCH**2
        model.pos_embed.zero_()
        # Other units alternate, so that the norm leaves colours in place.
        embed.bias.copy_(torch.tensor([-1.0, -1.0] + [1.0, -1.0] * (WIDTH // 2 - 1)))
        model.cls_token.copy_(embed.bias)
        block = model.blocks[0]
        block.norm1.weight.fill_(1)
        block.norm1.bias.zero_()
        block.attn.qkv.weight.zero_()
        block.attn.qkv.bias.zero_()
        size = WIDTH // HEADS
        for head, colours in enumerate(ATTENDED):
            for unit, colour in enumerate(colours):
                block.attn.qkv.bias[head * size + unit] = 10  # the same query everywhere
                block.attn.qkv.weight[WIDTH + head * size + unit, colour] = 1
    return model


def pictures(n: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Black pictures with a red mark at a random place and a green frame at a fixed one.

    Returns:
        Pixels (n, 3, H, W), 0 to 1, and regions (n, H, W, 1).
    """
    rng = np.random.Generator(np.random.Philox(seed))
    regions = np.zeros((n, PX, PX, 1), np.uint8)
    regions[:, 2 * PATCH : 3 * PATCH, PATCH : 5 * PATCH] = NAMES.index("frame")
    regions[:, 2 * PATCH : 6 * PATCH, 5 * PATCH : 6 * PATCH] = NAMES.index("frame")
    for i in range(n):
        column, row = PATCH * rng.integers(0, 4), PATCH * rng.integers(3, GRID - 1)
        regions[i, row : row + 2 * PATCH, column : column + PATCH] = NAMES.index("mark")
    pixels = np.stack([regions[..., 0] == NAMES.index(name) for name in ("mark", "frame")], 1)
    pixels = np.concatenate([pixels, np.zeros_like(pixels[:, :1])], 1)
    return torch.from_numpy(pixels.astype(np.float32)), regions
