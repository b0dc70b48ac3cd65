"""Small random models that the intervention tests share."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification


def _randomise(model, seed, dtype):
    # Default initialisation leaves effects near zero, where any error would look small.
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return model.to(dtype).eval()


def timm_vit(seed=0, dtype=torch.float64, **options):
    shape = {
        "img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 3,
        "num_classes": 4,
    }  # fmt: skip
    return _randomise(VisionTransformer(**{**shape, **options}), seed, dtype)


def hf_vit(seed=0, dtype=torch.float64):
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48,
        image_size=32, patch_size=16, num_labels=4,
    )  # fmt: skip
    return _randomise(ViTForImageClassification(config), seed, dtype)


def gpt2(seed=0, dtype=torch.float64, layers=3, heads=4, **options):
    config = GPT2Config(
        vocab_size=50, n_positions=32, n_embd=8 * heads, n_layer=layers, n_head=heads,
        bos_token_id=0, eos_token_id=0, **options,
    )  # fmt: skip
    return _randomise(GPT2LMHeadModel(config), seed, dtype)


class _OldAttention(nn.Module):
    """Self-attention with the module names that transformers used before version 5."""

    def __init__(self, width, heads):
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x):
        q, k, v = (
            p(x).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for p in (self.query, self.key, self.value)
        )
        z = nn.functional.scaled_dot_product_attention(q, k, v)
        return z.transpose(1, 2).flatten(-2)


class _Dense(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.dense = nn.Linear(d_in, d_out)

    def forward(self, x, residual=None):
        return self.dense(x) if residual is None else self.dense(x) + residual


class _OldOuterAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention, self.output = _OldAttention(width, heads), _Dense(width, width)

    def forward(self, x):
        return (self.output(self.attention(x)),)


class _Intermediate(_Dense):
    def forward(self, x):
        return nn.functional.gelu(self.dense(x))


class _OldLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = _OldOuterAttention(width, heads)
        self.intermediate, self.output = _Intermediate(width, 2 * width), _Dense(2 * width, width)
        self.layernorm_before, self.layernorm_after = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attention(self.layernorm_before(x))[0]
        return (self.output(self.intermediate(self.layernorm_after(x)), x),)


class OldViT(nn.Module):
    """A ViT whose blocks are `encoder.layer`, as in transformers before version 5."""

    def __init__(self, width=24, heads=3, depth=3):
        super().__init__()
        self.config = ViTConfig(hidden_size=width, num_attention_heads=heads)
        self.embeddings = nn.Conv2d(3, width, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(_OldLayer(width, heads) for _ in range(depth))
        self.layernorm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, images):
        patches = self.embeddings(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(images), -1, -1), patches], dim=1)
        for layer in self.encoder.layer:
            x = layer(x)[0]
        return self.head(self.layernorm(x)[:, 0])


def old_vit(seed=0, dtype=torch.float64):
    return _randomise(OldViT(), seed, dtype)


class Wrapper(nn.Module):
    """A ViT as an attribute with heads beside it, read before the final norm."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.heads = encoder, nn.ModuleDict({"a": nn.Linear(24, 2)})

    def forward(self, images):
        x = self.encoder.patch_embed(images)
        x = self.encoder._pos_embed(x)
        return {"a": self.heads["a"](self.encoder.blocks(self.encoder.norm_pre(x))[:, 0])}


class Inner(nn.Module):
    """A model of the user's own around a supported one."""

    def __init__(self, model):
        super().__init__()
        self.inner = model
        self.eval()


class OwnMask(Inner):
    """Hides zeros from attention, without being told."""

    def forward(self, ids):
        return self.inner(ids, attention_mask=(ids != 0).long())


def wrapped(seed=0, dtype=torch.float64):
    return _randomise(Wrapper(timm_vit(seed, dtype)), seed, dtype)


VITS = {
    "plain": timm_vit,
    "layer_scale_registers": lambda: timm_vit(init_values=0.3, reg_tokens=2),
    "average_pool": lambda: timm_vit(global_pool="avg"),
    "qk_norm": lambda: timm_vit(qk_norm=True),
    "hugging_face": hf_vit,
    "hugging_face_old": old_vit,
    "wrapped": wrapped,
}


def images(n=4, dtype=torch.float64, seed=0):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def logits(output):
    """Class scores of any of the models."""
    if isinstance(output, dict) and "a" in output:
        return output["a"]
    return getattr(output, "logits", output)


def vit_metric(output, rows):
    return logits(output)[:, 0] - 2 * logits(output)[:, 1]
