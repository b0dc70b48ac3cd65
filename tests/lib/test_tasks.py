import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from patchwork.models import tasks
from timm.layers import PatchEmbed

ANGLES = np.linspace(-400, 800, 977)[:, None]
LABELS = {"angle_deg": np.array([0.0, 90.0, 350.0]), "width_px": np.full(3, 2.0)}


def circular(one, other, period):
    gap = np.mod(one - other, period)
    return np.minimum(gap, period - gap)


@given(
    origin=st.floats(-720, 720),
    period=st.sampled_from([90.0, 180.0, 360.0]),
    x=st.floats(-1e3, 1e3),
)
def test_turns_come_back_within_their_period(origin, period, x):
    turn = tasks.Turn(period, origin)
    encoded = turn.encode(np.array([[x]]))
    assert -1 <= encoded <= 1
    back = turn.decode(encoded)
    assert 0 <= back <= period
    assert circular(back, x, period) < 1e-9


def test_the_published_angle_target_is_the_turn_without_an_origin():
    expected = [[(a % 360) / 180 - 1] for a in ANGLES[:, 0]]
    assert np.allclose(tasks.Turn().encode(ANGLES), expected, atol=1e-12)


@pytest.mark.parametrize("origin", [0.0, 90.0])
def test_a_turn_jumps_at_its_origin_and_nowhere_else(origin):
    turn = tasks.Turn(360, origin)
    steps = np.arange(0, 360, 0.5)[:, None]
    jump = np.abs(turn.encode(steps + 0.25) - turn.encode(steps - 0.25))[:, 0]
    assert np.flatnonzero(jump > 1).tolist() == [int(origin / 0.5)]
    assert jump[jump > 1] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("period", [180.0, 360.0])
def test_double_angles_come_back_and_never_jump(period):
    encoding = tasks.DoubleAngle(period)
    two = np.concatenate([ANGLES, ANGLES[::-1]], axis=1)
    encoded = encoding.encode(two)
    assert encoded.shape == (len(two), encoding.width(2)) == (977, 4)
    assert np.max(circular(encoding.decode(3.7 * encoded), two, period)) < 1e-9
    fine = encoding.encode(np.arange(-1, 721, 0.5)[:, None])
    assert np.abs(np.diff(fine, axis=0)).max() < 0.02
    expected = [np.cos(np.deg2rad(30 * 360 / period)), np.sin(np.deg2rad(30 * 360 / period))]
    assert np.allclose(encoding.encode(np.array([[30.0]])), [expected])


def test_scales_and_classes_come_back():
    values = np.array([[3.0, 7.0], [0.0, -1.0]])
    assert np.allclose(tasks.Scaled(10).encode(values), values / 10)
    assert np.allclose(tasks.Scaled(10).decode(values / 10), values)
    classes = np.array([[2.0], [0.0]])
    one_hot = tasks.Category(4).encode(classes)
    assert one_hot.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert np.array_equal(tasks.Category(4).decode(one_hot + 0.3), classes)


def test_pictures_are_cut_as_timm_cuts_them():
    rng = np.random.Generator(np.random.Philox(1))
    pictures = rng.integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    encoded = torch.from_numpy(tasks.Patches(8).encode(pictures))
    embed = PatchEmbed(img_size=(16, 24), patch_size=8, embed_dim=5)
    nchw = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 255
    # The convolution's kernel, reordered to (row, column, channel), applied to our rows.
    kernel = embed.proj.weight.permute(0, 2, 3, 1).reshape(5, -1).double()
    expected = embed.double()(nchw)
    assert torch.allclose(encoded @ kernel.T + embed.proj.bias, expected, atol=1e-10)
    assert np.allclose(encoded[1, 4, :3], pictures[1, 8, 8] / 255)


def test_losses_are_those_of_torch_for_each_example():
    generator = torch.Generator().manual_seed(1)
    output, target = (torch.rand((5, 3), generator=generator) for _ in range(2))
    huber = tasks.Target(("a",), tasks.Scaled(), loss="huber", loss_options={"delta": 0.1})
    naive = []
    for x, y in zip(output.tolist(), target.tolist(), strict=True):
        gaps = [abs(a - b) for a, b in zip(x, y, strict=True)]
        naive.append(np.mean([0.5 * g * g if g < 0.1 else 0.1 * (g - 0.05) for g in gaps]))
    assert huber.losses(output, target).tolist() == pytest.approx(naive, rel=1e-5)
    squared = tasks.Target(("a",), tasks.Scaled())
    assert squared.losses(output, target) == pytest.approx(((output - target) ** 2).mean(1))
    one_hot = torch.eye(3)[[0, 2, 1, 1, 0]]
    scores = tasks.Target(("a",), tasks.Category(3), loss="cross_entropy")
    expected = -output.log_softmax(1)[torch.arange(5), one_hot.argmax(1)]
    assert torch.allclose(scores.losses(output, one_hot), expected)
    wrong = 1 - F.softmax(output, 1)[torch.arange(5), one_hot.argmax(1)]
    assert torch.allclose(scores.absolute_errors(output, one_hot), wrong)
    assert torch.allclose(squared.absolute_errors(output, target), (output - target).abs().mean(1))


def test_labels_that_do_not_vary_give_no_target():
    blocks = {
        "width": {"labels": ["width_px"], "encoding": "scaled", "scale": 10},
        "angle": {"labels": ["angle_deg"], "encoding": "turn"},
    }
    assert list(tasks.read_targets(blocks, LABELS, 64)) == ["angle"]
    with pytest.raises(ValueError, match="none of width varies"):
        tasks.read_targets({"width": blocks["width"]}, LABELS, 64)


def test_a_missing_label_is_named():
    blocks = {"shade": {"labels": ["grey"], "encoding": "scaled"}}
    with pytest.raises(ValueError, match=r"targets.shade.labels: 'grey'.*angle_deg, width_px"):
        tasks.read_targets(blocks, LABELS, 64)


def test_a_block_becomes_its_target():
    block = {
        "labels": ["x", "y"], "encoding": "scaled", "scale": "image_px", "loss": "huber",
        "delta": 0.1, "weight": 2, "activation": "sigmoid",
    }  # fmt: skip
    target = tasks.read_target(block, 64)
    assert target.encoding == tasks.Scaled(64)
    assert target.width == 2
    assert (target.weight, target.activation, target.loss_options) == (2, "sigmoid", {"delta": 0.1})
    encoded = tasks.encode_all({"at": target}, {"x": np.array([32]), "y": np.array([16])})["at"]
    assert encoded.dtype == torch.float32
    assert encoded.tolist() == [[0.5, 0.25]]
    decoded = tasks.decode_all({"at": target}, {"at": encoded.numpy()})
    assert {name: column.tolist() for name, column in decoded.items()} == {"x": [32], "y": [16]}
    turned = tasks.read_target({"labels": ["a"], "encoding": "turn", "origin": 90}, 64)
    assert turned.encoding == tasks.Turn(360, 90)


def test_each_label_may_have_its_own_offset_and_scale():
    block = {"labels": ["t", "f"], "encoding": "scaled", "scale": [2, 500], "offset": [1, -100]}
    target = tasks.read_target(block, 64)
    labels = {"t": np.array([1.0, 3.0]), "f": np.array([400.0, -100.0])}
    encoded = target.encode(labels)
    assert encoded.tolist() == [[0, 1], [1, 0]]
    back = tasks.decode_all({"at": target}, {"at": encoded})
    assert {name: column.tolist() for name, column in back.items()} == {
        "t": [1, 3], "f": [400, -100],
    }  # fmt: skip
    shared = tasks.Scaled(scale=[2, 4], offset=10)
    assert shared.encode(np.array([[12.0, 18.0]])).tolist() == [[1, 2]]
    assert shared.decode(np.array([[1.0, 2.0]])).tolist() == [[12, 18]]


@pytest.mark.parametrize("loss", [{"loss": "squared"}, {"loss": "huber", "delta": 0.1}])
def test_what_is_unknown_teaches_nothing(loss):
    """The gradient is that of the known labels alone; without leave, an unknown one is a nan."""
    block = {"labels": ["t", "f"], "encoding": "scaled", "where_known": True, **loss}
    target = tasks.read_target(block, 64)
    truth = torch.tensor([[0.5, np.nan], [0.2, 0.9], [np.nan, np.nan]])
    output = torch.tensor([[1.0, 4.0], [0.1, 0.1], [7.0, -7.0]], requires_grad=True)
    losses = target.losses(output, truth)
    losses.sum().backward()
    known = ~torch.isnan(truth)
    assert torch.isfinite(losses).all()
    assert losses[2] == 0
    assert torch.equal(output.grad != 0, known)
    plain = tasks.read_target({**block, "where_known": False}, 64)
    other = output.detach().clone().requires_grad_()
    plain.losses(other, truth.nan_to_num(0.3)).sum().backward()
    assert torch.equal(output.grad[known], other.grad[known])
    errors = target.absolute_errors(output.detach(), truth)
    assert errors.tolist() == pytest.approx([0.25, 0.45, 0])
    assert torch.isnan(plain.losses(output, truth)[[0, 2]]).all()


def test_a_label_that_is_sometimes_unknown_varies_if_what_is_known_does():
    block = {"labels": ["t"], "encoding": "scaled", "where_known": True}
    varied = {"t": np.array([np.nan, 1.0, 2.0]), "a": np.arange(3.0)}
    assert tasks.read_targets({"t": block}, varied, 64)["t"].where_known
    others = {"t": block, "a": {"labels": ["a"], "encoding": "scaled"}}
    for column in ([np.nan, 1.0, 1.0], [np.nan] * 3):
        labels = {**varied, "t": np.array(column)}
        assert list(tasks.read_targets(others, labels, 64)) == ["a"]


@pytest.mark.parametrize("number", [3.0, -1.0, np.nan])
def test_a_class_that_there_is_not_is_named(number):
    with pytest.raises(ValueError, match=rf"class is {number:g}; allowed is 0 to .* 2$") as caught:
        tasks.Category(3).encode(np.array([[0.0], [number], [2.0]]))
    assert "\n" not in str(caught.value)
