import pytest
import torch
from patchwork.training import precision, trainer
from small_networks import LORA, TRAINING, Pictures, network

CPU = torch.device("cpu")


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_auto_is_bf16_where_the_processor_has_it_and_fp32_elsewhere(monkeypatch, instruction):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instruction: True})
    assert precision.resolve("auto", CPU) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, instruction: False})
    assert precision.resolve("auto", CPU) == "no"
    assert [precision.resolve(word, CPU) for word in ("no", "bf16")] == ["no", "bf16"]


def test_an_unknown_precision_is_named():
    with pytest.raises(ValueError, match=r"mixed_precision is 'fp8'; allowed is no, bf16, auto"):
        precision.resolve("fp8", CPU)


def fused(one):
    return [block.attn.fused_attn for block in one.encoder.blocks]


@pytest.mark.parametrize(("word", "inside"), [("bf16", False), ("no", True)])
def test_attention_leaves_the_fused_kernel_in_bf16_only_and_comes_back(word, inside):
    one = network()

    def fail():
        with precision.suited_attention(one, word):
            assert fused(one) == [inside, inside]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert fused(one) == [True, True]


def test_training_in_bf16_is_near_fp32_but_not_the_same(tmp_path):
    seen, logs = [], {}
    for word in ("no", "bf16"):
        # One process has one precision, so accelerate's own memory of it is cleared in between.
        trainer.Accelerator().state._reset_state(reset_partial_state=True)
        one = network(LORA | {"dropout": 0.0})
        one.encoder.blocks[0].attn.register_forward_hook(
            lambda module, _given, out: seen.append((module.fused_attn, out.dtype))
        )
        settings = {**TRAINING, "mixed_precision": word, "checkpoint_every_s": 60}
        folder = tmp_path / word
        logs[word] = trainer.fit(
            one, Pictures(96, 1), Pictures(32, 2), settings, seed=5, folder=folder
        )
        assert logs[word].precision == word
        used = {"no": (True, torch.float32), "bf16": (False, torch.bfloat16)}
        assert used[word] in seen
        seen.clear()
    trainer.Accelerator().state._reset_state(reset_partial_state=True)
    exact, rough = (logs[word].steps["loss"].to_numpy() for word in ("no", "bf16"))
    assert (exact != rough).any()
    assert abs(exact - rough).max() < 0.05 * exact.max()


def test_heads_compute_in_fp32_under_autocast():
    one = network().train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = one(Pictures(4, 1).images)
    assert {value.dtype for value in outputs.values()} == {torch.float32}
