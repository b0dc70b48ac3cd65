import hashlib
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from patchwork.data import tensors
from patchwork.jobs.provenance import file_sha256, from_metadata
from patchwork.models import backbones
from safetensors.torch import save_file
from small_networks import ARCHITECTURE, RANDOM

REVISION = "0123456789abcdef0123456789abcdef01234567"
HUB = {
    "source": "hub", "architecture": ARCHITECTURE, "repository": "someone/some-vit",
    "revision": REVISION,
}  # fmt: skip


def weights(one):
    return one.encoder.state_dict()


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def raised(settings, image_px=16):
    with pytest.raises(ValueError, match=r".") as error:
        backbones.prepare(settings, image_px, seed=0)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def released(tmp_path):
    """Weights as a hub keeps them: with a classification head, without our record."""
    one = backbones.prepare({**RANDOM, "position_scale": None}, 16, seed=11)
    tensors = {**weights(one), "head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)}
    path = tmp_path / "released.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return one, path


def local(path, **changes):
    return {
        "source": "local", "architecture": ARCHITECTURE, "path": str(path),
        "sha256": file_sha256(path), **changes,
    }  # fmt: skip


def test_random_weights_follow_the_seed():
    one, again, other = (backbones.prepare(RANDOM, 16, seed=s) for s in (1, 1, 2))
    assert same(one, again)
    assert not torch.equal(weights(one)["cls_token"], weights(other)["cls_token"])
    assert not one.encoder.training
    assert one.width == 32
    assert one.provenance == {"source": "random", "seed": 1}


def test_positions_can_be_told_apart_from_the_first_step_on():
    table = weights(backbones.prepare(RANDOM, 32, seed=1))["pos_embed"][0, 1:]
    assert table.shape == (16, 32)
    assert table.abs().max() <= 0.5
    likeness = torch.nn.functional.normalize(table, dim=1) @ table.T
    assert likeness.argmax(1).tolist() == list(range(16))
    assert likeness[0, 1] > likeness[0, 3]  # near places are more alike than far ones
    quarter = 8
    for row, column in ((0, 0), (2, 3)):
        rates = [1 / 10000 ** (i / quarter) for i in range(quarter)]
        expected = [f(a * r) / 2 for a in (column, row) for f in (np.sin, np.cos) for r in rates]
        assert np.allclose(table[row * 4 + column], expected, atol=1e-6)


def test_local_weights_are_loaded_and_recorded(released):
    one, path = released
    got = backbones.prepare(local(path), 16, seed=0)
    assert same(got, one)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert got.provenance == {"source": "local", "path": str(path), "sha256": digest}
    assert same(backbones.prepare(local(path, sha256=digest.upper()), 16, seed=5), one)


def test_positions_are_resampled_for_another_image_size(released):
    one, path = released
    got = backbones.prepare(local(path), 32, seed=0)
    small, large = weights(one)["pos_embed"], weights(got)["pos_embed"]
    assert large.shape == (1, 17, 32)
    assert torch.equal(large[:, 0], small[:, 0])
    # The mean over places survives a resampling; each corner stays nearest to its own corner.
    assert torch.allclose(large[0, 1:].mean(0), small[0, 1:].mean(0), atol=0.02)
    corners = large[0, 1:].reshape(4, 4, 32)[::3, ::3].reshape(4, 32)
    assert torch.cdist(corners, small[0, 1:]).argmin(1).tolist() == [0, 1, 2, 3]
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(weights(got)[name], weights(one)[name])


def test_a_wrong_checksum_is_named_with_both_sums(released):
    _, path = released
    message = raised(local(path, sha256="ab" * 32))
    assert str(path) in message
    assert "ab" * 32 in message
    assert file_sha256(path) in message


def test_files_that_do_not_fit_are_refused(released, tmp_path):
    one, path = released
    options = {**ARCHITECTURE["options"], "depth": 3}
    assert "does not fit" in raised(
        local(path, architecture={"name": ARCHITECTURE["name"], "options": options})
    )
    foreign = tmp_path / "foreign.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, foreign)
    assert "does not fit" in raised(local(foreign))
    oddly = {**weights(one), "pos_embed": torch.zeros(1, 8, 32)}  # seven places make no square
    save_file(oddly, foreign)
    assert "does not fit" in raised(local(foreign), image_px=32)
    foreign.write_bytes(b"not tensors")
    assert "not a readable safetensors" in raised(local(foreign))
    absent = {**local(foreign), "path": str(tmp_path / "absent.safetensors")}
    assert "allowed is an existing safetensors file" in raised(absent)


@pytest.mark.parametrize("name", ["vit_of_dreams", "resnet18", "vit_tiny_patch16_224.no_such_tag"])
def test_architectures_that_are_no_vision_transformers_are_named(name):
    message = raised({**RANDOM, "architecture": {"name": name}})
    assert name.split(".")[0] in message


def test_a_saved_backbone_comes_back_with_its_record(tmp_path):
    one = backbones.prepare(RANDOM, 24, seed=1)
    one.provenance = {"source": "pretrained", "validation_r": {"x": 0.25}, "note": "a\nb"}
    backbones.save(one, tmp_path / "deep" / "one.safetensors")
    got = backbones.load(tmp_path / "deep" / "one.safetensors")
    assert same(one, got)
    assert got.provenance == one.provenance
    assert got.architecture == {"image_px": 24, **ARCHITECTURE}
    assert (got.mean, got.std) == (one.mean, one.std)
    assert not got.encoder.training
    # What was written here can serve as a local file elsewhere.
    elsewhere = backbones.prepare(local(tmp_path / "deep" / "one.safetensors"), 24, seed=3)
    assert same(elsewhere, one)


def test_a_foreign_file_is_no_backbone(released):
    with pytest.raises(ValueError, match=r"released.safetensors: holds no backbone record"):
        backbones.load(released[1])


@pytest.fixture
def hub(tmp_path, monkeypatch, released):
    """A server on this machine that answers as the hub does; the cache is empty."""
    content = released[1].read_bytes()
    asked = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body):
            asked.append(self.path)
            known = self.path in ("/", f"/someone/some-vit/resolve/{REVISION}/model.safetensors")
            self.send_response(200 if known else 404)
            if known and self.path != "/":
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", REVISION)
            elif not known:
                self.send_header("X-Error-Code", "RevisionNotFound")
            size = len(content) if known and self.path != "/" else 0
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if body and size:
                self.wfile.write(content)

        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    at(address, tmp_path, monkeypatch)
    yield asked
    server.shutdown()
    server.server_close()


def at(address, tmp_path, monkeypatch):
    """Take this address for the hub, this folder for its cache, and no proxy on the way."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_the_hubs_weights_are_fetched_once_at_their_revision(hub, released):
    got = backbones.prepare(HUB, 16, seed=0)
    assert same(got, released[0])
    assert got.provenance == {
        "source": "hub", "repository": "someone/some-vit", "revision": REVISION,
        "sha256": file_sha256(released[1]),
    }  # fmt: skip
    assert any(path.endswith("model.safetensors") for path in hub)
    n_asked = len(hub)
    assert same(backbones.prepare(HUB, 16, seed=0), got)
    assert len(hub) == n_asked  # from the cache: a pinned revision never changes


@pytest.mark.usefixtures("hub")
def test_a_revision_that_the_hub_lacks_is_named():
    message = raised({**HUB, "revision": "f" * 40})
    assert "someone/some-vit" in message
    assert "f" * 40 in message


@pytest.mark.parametrize("how", ["refused", "silent", "offline"])
def test_a_hub_out_of_reach_fails_with_the_way_out(how, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if how == "refused":
            listener.close()
        at(f"http://127.0.0.1:{port}", tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", how == "offline")
        limits = []
        opened = urllib.request.urlopen

        def quick(request, *, timeout):
            limits.append(timeout)
            return opened(request, timeout=min(timeout, 0.5))

        monkeypatch.setattr("urllib.request.urlopen", quick)
        message = raised(HUB)
    assert "someone/some-vit" in message
    assert "source: local with path and sha256" in message
    assert limits
    assert max(limits) <= 10


def kept(folder, numbers):
    """Encoders as a training keeps them on its way."""
    states = {}
    for n in numbers:
        states[n] = weights(backbones.prepare(RANDOM, 16, seed=n))
        record = {"images": n, "loss": 1 / n, "scores": {"x": n / 1000}}
        tensors.write_tensors(states[n], record, folder / f"{n}.safetensors")
    return states


def test_snapshots_come_back_by_images_seen(tmp_path):
    # Names that begin alike and sort otherwise as text.
    states = kept(tmp_path / "kept", (12, 112, 2, 20))
    (tmp_path / "kept/.20.safetensors.7.partial").write_bytes(b"half")
    path = tmp_path / "all.safetensors"
    backbones.join_snapshots(tmp_path / "kept", path)
    one = backbones.prepare(RANDOM, 16, seed=1)
    found = []
    for record, encoder in backbones.snapshots(one, path):
        n = record["images"]
        found.append(n)
        assert record == {"images": n, "loss": 1 / n, "scores": {"x": n / 1000}}
        assert encoder is one.encoder
        got = encoder.state_dict()
        assert all(torch.equal(got[name], value) for name, value in states[n].items())
    assert found == [2, 12, 20, 112]


def test_no_snapshots_make_an_empty_file(tmp_path):
    path = tmp_path / "deep/none.safetensors"
    backbones.join_snapshots(tmp_path / "absent", path)
    assert list(backbones.snapshots(backbones.prepare(RANDOM, 16, seed=1), path)) == []


def test_snapshots_that_do_not_fit_are_named(tmp_path, released):
    kept(tmp_path / "kept", (4,))
    path = tmp_path / "all.safetensors"
    backbones.join_snapshots(tmp_path / "kept", path)
    options = {**ARCHITECTURE["options"], "depth": 3}
    architecture = {"name": ARCHITECTURE["name"], "options": options}
    other = backbones.prepare({**RANDOM, "architecture": architecture}, 16, seed=1)
    with pytest.raises(
        ValueError, match=r"all.safetensors: does not fit the architecture"
    ) as caught:
        next(backbones.snapshots(other, path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"released.safetensors: holds no snapshots"):
        next(backbones.snapshots(released[0], released[1]))


def test_the_same_weights_and_record_are_the_same_bytes(tmp_path):
    """The record too: its keys are sorted, whatever they and its values hold."""
    record = {"b": "Zürich \u2028 \n", "a": {"y": 1, "x": [None, 'a"b']}, "ü": 3, "c": 2.5}
    state = weights(backbones.prepare(RANDOM, 16, seed=1))
    files = []
    for i in range(6):
        path = tmp_path / f"{i}.safetensors"
        order = sorted(record, reverse=bool(i % 2))
        tensors.write_tensors(state, {key: record[key] for key in order}, path)
        files.append(path.read_bytes())
    assert len(set(files)) == 1
    got, metadata = tensors.read_tensors(path)
    assert from_metadata(metadata) == record
    assert all(torch.equal(got[name], value) for name, value in state.items())
    tensors.write_tensors({"x": torch.ones(2)}, {}, path)
    assert tensors.read_tensors(path)[1] == {}
