"""Small random models of every row of the architecture table, from their configurations."""

import torch
import transformers
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

TEXT = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": 0,
}  # fmt: skip
IMAGE = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
EVA = {
    "img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 3,
    "num_classes": 4,
}  # fmt: skip
LOCAL = {
    "attention_types": [[["global", "local", "global"], 1]], "num_layers": 3, "window_size": 3,
}  # fmt: skip

# Name to class of model, model type, options, and whether patching has a fast path.
CASES = {
    "llama": ("ForCausalLM", "llama", {**TEXT, **GROUPED}, True),
    "llama, its own head width": ("ForCausalLM", "llama", {**TEXT, "head_dim": 6}, True),
    "mistral": ("ForCausalLM", "mistral", {**TEXT, **GROUPED, "sliding_window": None}, True),
    "mistral, sliding": ("ForCausalLM", "mistral", {**TEXT, **GROUPED, "sliding_window": 3}, False),
    "qwen2": ("ForCausalLM", "qwen2", {**TEXT, **GROUPED}, True),
    "qwen3": ("ForCausalLM", "qwen3", {**TEXT, **GROUPED, "head_dim": 8}, True),
    "pythia": ("ForCausalLM", "gpt_neox", TEXT, True),
    "gpt-neox, sequential": (
        "ForCausalLM", "gpt_neox", {**TEXT, "use_parallel_residual": False}, True
    ),
    "opt": ("ForCausalLM", "opt", {**TEXT, "ffn_dim": 48, "word_embed_proj_dim": 32}, True),
    "opt, post-norm": (
        "ForCausalLM", "opt",
        {**TEXT, "ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False}, False,
    ),
    "gpt-neo": ("ForCausalLM", "gpt_neo", {**TEXT, **LOCAL, "window_size": 16}, True),
    "gpt-neo, local": ("ForCausalLM", "gpt_neo", {**TEXT, **LOCAL}, False),
    "bert": ("ForMaskedLM", "bert", TEXT, False),
    "dinov2": ("ForImageClassification", "dinov2", {**IMAGE, "mlp_ratio": 2}, True),
    "dinov2, registers, swiglu": (
        "ForImageClassification", "dinov2_with_registers",
        {**IMAGE, "mlp_ratio": 2, "use_swiglu_ffn": True, "num_register_tokens": 2}, True,
    ),
    "dinov3": ("", "dinov3_vit", {**IMAGE, "num_register_tokens": 2}, True),
    "dinov3, gated": ("", "dinov3_vit", {**IMAGE, "use_gated_mlp": True}, True),
    "timm eva02": ("timm", Eva, {**EVA, "swiglu_mlp": True, "use_rot_pos_emb": True}, True),
    "timm eva": ("timm", Eva, {**EVA, "qkv_fused": False, "init_values": 0.5}, True),
    "timm dinov3": (
        "timm", Eva,
        {**EVA, "qkv_bias": False, "init_values": 0.5, "rope_type": "dinov3", "num_reg_tokens": 2,
         "rope_rotate_half": True, "use_rot_pos_emb": True, "use_abs_pos_emb": False}, True,
    ),
    "timm pe": (
        "timm", Eva, {**EVA, "attn_type": "rope", "use_rot_pos_emb": True, "global_pool": "map",
                      "use_pre_transformer_norm": True, "attn_pool_num_heads": 3}, True,
    ),
    "timm beit": ("timm", Beit, {**EVA, "use_rel_pos_bias": True, "init_values": 0.5}, True),
    "timm beit, shared bias": ("timm", Beit, {**EVA, "use_shared_rel_pos_bias": True}, False),
    "clip": ("", "clip_vision_model", IMAGE, True),
    "siglip": ("", "siglip_vision_model", {**IMAGE, "vision_use_head": False}, True),
}  # fmt: skip
# Families whose sweeps other files test; the page of architectures lists them too.
OTHERS = {
    "timm vit": (
        "timm", VisionTransformer, {**EVA, "init_values": 0.5, "reg_tokens": 2}, True,
    ),
    "vit": ("ForImageClassification", "vit", IMAGE, True),
    "vit-msn": ("ForImageClassification", "vit_msn", IMAGE, True),
    "deit": ("", "deit", IMAGE, True),
    "i-jepa": ("ForImageClassification", "ijepa", IMAGE, True),
    "gpt-2": ("ForCausalLM", "gpt2", {**TEXT, "n_inner": 48}, True),
}  # fmt: skip
RELATIVE = {"use_relative_position_bias": True}
# Model types that name their modules as a family does and compute something else.
REFUSED = {
    "audio-spectrogram-transformer": {}, "beit": RELATIVE, "data2vec-vision": RELATIVE,
    "decision_transformer": {}, "dpt": {}, "gpt_bigcode": {}, "imagegpt": {}, "pixio": {},
    "roberta": {}, "t5": {"num_layers": 1}, "timesformer": {}, "vilt": {}, "vit_mae": {},
    "vivit": {}, "yolos": {},
}  # fmt: skip
_CLASSES = {
    "ForCausalLM": transformers.AutoModelForCausalLM,
    "ForMaskedLM": transformers.AutoModelForMaskedLM,
    "ForImageClassification": transformers.AutoModelForImageClassification,
    "": transformers.AutoModel,
}


def make(name):
    """A model with weights large enough for effects far above rounding; fp32, in which norms
    and rotations of these models are computed whatever their type."""
    kind, model_type, options, _ = {**CASES, **OTHERS}[name]
    if kind == "timm":
        model = model_type(**options)
    else:
        config = transformers.AutoConfig.for_model(model_type, **options)
        model = _CLASSES[kind].from_config(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        # Around 1 where it multiplies, as the weight of a norm or of LayerScale does.
        centre = 1.0 if bool((parameter == 1).all()) else 0.0
        parameter.data = centre + torch.randn(parameter.shape, generator=generator) * 0.2
    return model.eval()


def named_alike(model_type, **options):
    """A model of a Hugging Face model type with one layer, its weights never made."""
    config = transformers.AutoConfig.for_model(model_type, **options)
    config.num_hidden_layers = 1
    with torch.device("meta"):
        return transformers.AutoModel.from_config(config)


def is_vision(name):
    return not {"image_size", "img_size"}.isdisjoint({**CASES, **OTHERS}[name][2])


def inputs(name, n=5, t=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if is_vision(name):
        return torch.randn(n, 3, 32, 32, generator=generator)
    return torch.randint(1, 40, (n, t), generator=generator)


def near(name, n=5, step=1e-3):
    """Source and base inputs that differ by a small step, once `pair_tokens` was called."""
    base, other = inputs(name, n), inputs(name, n, seed=1)
    if is_vision(name):
        return base + step * (other - base), base
    base = base % 20
    return base + 20, base


def pair_tokens(model, step=1e-3):
    """Let token i + 20 of a text model be embedded nearly as token i."""
    table = getattr(model, "get_input_embeddings", lambda: None)()
    if table is not None and getattr(table, "num_embeddings", 0) == 40:
        generator = torch.Generator().manual_seed(2)
        change = torch.randn(20, table.embedding_dim, generator=generator)
        table.weight.data[20:] = table.weight.data[:20] + step * change


def outputs(output):
    if isinstance(output, torch.Tensor):
        return output
    logits = getattr(output, "logits", None)
    return output.last_hidden_state if logits is None else logits


def metric(output, rows):
    """Reads the last token of text and the first of images."""
    values = outputs(output)
    if values.ndim == 3:
        values = values[:, -1] if values.shape[-1] == 40 else values[:, 0]
    return values[:, 0] - 2 * values[:, 1]
