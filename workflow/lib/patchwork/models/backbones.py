"""One loader for every backbone: hub, local file, package, pre-trained here, or random."""

import contextlib
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch.nn import functional

from patchwork.data.tensors import read_tensors, write_tensors
from patchwork.jobs.provenance import check_sha256, file_sha256, from_metadata
from patchwork.models import packages

SOURCES = ("hub", "local", "package", "random", "pretrained")
WEIGHTS_FILE = "model.safetensors"
# The hub answers or it does not; retries for minutes hide a missing network.
_HUB_TIMEOUT_S = 5.0


@dataclass
class Backbone:
    """An encoder with what is needed to feed it and to say where it comes from.

    Attributes:
        encoder: a timm vision transformer without a classification head.
        architecture: ``name`` (timm), ``image_px``, ``options`` (keyword arguments of timm).
        mean: per channel, in units of 0 to 1.
        std: per channel, in units of 0 to 1.
        provenance: source, revision, SHA-256, seed, training: JSON-able.
    """

    encoder: VisionTransformer
    architecture: dict
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: dict = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Size of a token."""
        return int(self.encoder.embed_dim)


def prepare(settings: Mapping, image_px: int, *, seed: int) -> Backbone:
    """A backbone before any training here.

    Args:
        settings: ``source``, one of `SOURCES`; ``architecture`` with ``name`` and ``options``;
            ``position_scale`` (random, pretrained): factor on 2-D sin-cos positions, null for
            timm's own initial values; for ``hub`` ``repository`` and ``revision``; for ``local``
            ``path`` and ``sha256``; for ``package`` ``package``, see `packages.weights`;
            ``shuffled``: whether loaded weights are shuffled within each tensor, a control that
            keeps their values and loses what was learnt.
        image_px: side of the images that it will see.
        seed: of initial values and of shuffling; without effect on weights loaded as they are.

    Returns:
        The backbone in eval mode; for ``pretrained`` its initial state.

    Raises:
        ValueError: in one line, if weights cannot be had or do not fit the architecture.
    """
    architecture = {"image_px": image_px, **settings["architecture"]}
    backbone = _initial(architecture, seed)
    source = settings["source"]
    backbone.provenance = {"source": source, "seed": seed}
    if source in ("hub", "local"):
        path = _downloaded(settings) if source == "hub" else _local(settings)
        _fill(backbone.encoder, path)
        keys = ("repository", "revision") if source == "hub" else ("path",)
        backbone.provenance = {
            "source": source,
            **{key: settings[key] for key in keys},
            "sha256": file_sha256(path),
        }
    elif source == "package":
        state, origin = packages.weights(settings["package"])
        _fill_in(backbone.encoder, state, f"package {origin['name']}")
        backbone.provenance = {"source": source, "package": origin}
    elif settings.get("position_scale") is not None:
        _set_positions(backbone.encoder, settings["position_scale"])
    if settings.get("shuffled"):
        _shuffle(backbone.encoder, seed)
        backbone.provenance |= {"shuffled": True, "seed": seed}
    return backbone


def _create(architecture: Mapping) -> VisionTransformer:
    name = architecture["name"]
    options = {"img_size": architecture["image_px"], **architecture.get("options", {})}
    try:
        encoder = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"architecture.name {name!r} cannot be built: {error}") from error
    if not isinstance(encoder, VisionTransformer):
        raise ValueError(
            f"architecture.name is {name!r}, a {type(encoder).__name__}; allowed is a timm "
            "VisionTransformer, such as vit_base_patch16_224"
        )
    return encoder.eval()


def _initial(architecture: dict, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _create(architecture)
    statistics: Any = encoder.pretrained_cfg
    return Backbone(encoder, architecture, tuple(statistics["mean"]), tuple(statistics["std"]))


def _set_positions(encoder: Any, scale: float) -> None:
    """Fixed frequencies, so that place can be read from the first step on."""
    rows, columns = encoder.patch_embed.grid_size
    quarter = encoder.embed_dim // 4
    rates = 1 / 10000 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    waves = [f(axis.reshape(-1, 1) * rates) for axis in (x, y) for f in (torch.sin, torch.cos)]
    table = torch.zeros(encoder.pos_embed.shape[-2:], dtype=torch.float64)
    table[-rows * columns :, : 4 * quarter] = torch.cat(waves, dim=1)
    with torch.no_grad():
        encoder.pos_embed.copy_((scale * table)[None].float())


def _downloaded(settings: Mapping) -> Path:
    """The hub's file from its cache or from the network, which is probed before it is trusted."""
    wanted = {"repo_id": settings["repository"], "revision": settings["revision"]}
    try:
        return Path(hf_hub_download(**wanted, filename=WEIGHTS_FILE, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        _probe(constants.ENDPOINT)
        return Path(hf_hub_download(**wanted, filename=WEIGHTS_FILE))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"backbone {wanted['repo_id']} at {wanted['revision']} cannot be downloaded "
            f"({type(error).__name__}); without a network set source: local with path and sha256 "
            f"of its {WEIGHTS_FILE}"
        ) from error


def _probe(address: str) -> None:
    """Return when anything answers there within seconds, else raise an OSError."""
    request = urllib.request.Request(address, method="HEAD")
    with contextlib.suppress(urllib.error.HTTPError):  # which is an answer, too
        urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_S).close()


def _local(settings: Mapping) -> Path:
    path = Path(settings["path"])
    if not path.is_file():
        raise ValueError(f"backbone path is {path}; allowed is an existing safetensors file")
    check_sha256(path, settings["sha256"])
    return path


def _fill(encoder: VisionTransformer, path: Path) -> None:
    """Load weights made for this architecture; positions are resampled to the image size."""
    tensors, _ = read_tensors(path)
    kept = {k: v for k, v in tensors.items() if not k.startswith(("head.", "head_dist.", "fc."))}
    try:
        encoder.load_state_dict(checkpoint_filter_fn(kept, encoder))
    except (RuntimeError, KeyError) as error:
        raise _misfit(path, error) from error


def _misfit(what: str | Path, error: Exception) -> ValueError:
    text = " ".join(str(error).split())[:200]
    return ValueError(f"{what}: does not fit the architecture ({text})")


def _fill_in(encoder: Any, state: Mapping[str, torch.Tensor], what: str) -> None:
    """Load weights under timm's names; positions of a square are resampled to the image size.

    By bicubic interpolation without antialiasing, as DINOv2 does; timm's own blurs them.
    """
    n_prefix, table = encoder.num_prefix_tokens, state["pos_embed"]
    side = math.isqrt(table.shape[1] - n_prefix)
    square = table[:, n_prefix:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    size = encoder.patch_embed.grid_size
    drawn = functional.interpolate(square, size, mode="bicubic", antialias=False)
    places = torch.cat([table[:, :n_prefix], drawn.flatten(2).transpose(1, 2)], dim=1)
    try:
        encoder.load_state_dict({**state, "pos_embed": places})
    except RuntimeError as error:
        raise _misfit(what, error) from error


def _shuffle(encoder: VisionTransformer, seed: int) -> None:
    """Give every parameter its own values in a random order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, value in sorted(encoder.named_parameters()):
            order = torch.randperm(value.numel(), generator=generator)
            value.copy_(value.flatten()[order].view_as(value))


def normalised(network: Any, images: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    """Images as an encoder takes them, batch by batch, on its device.

    Args:
        network: with ``encoder``, ``mean`` and ``std``, such as a backbone.
        images: shape (n, height, width, 3), uint8.
        batch_size: images at once.
    """
    device = next(iter(network.encoder.parameters()), torch.empty(0)).device
    mean, std = (
        torch.as_tensor(x, dtype=torch.float32, device=device).reshape(3, 1, 1)
        for x in (network.mean, network.std)
    )
    for first in range(0, len(images), batch_size):
        part = np.ascontiguousarray(images[first : first + batch_size].transpose(0, 3, 1, 2))
        pixels = torch.tensor(part, device=device).float() / 255
        yield (pixels - mean) / std


def save(backbone: Backbone, path: str | Path) -> None:
    """Write weights and record to one safetensors file.

    Raises:
        OSError: if the file cannot be written.
    """
    names = ("architecture", "mean", "std", "provenance")
    record = {name: getattr(backbone, name) for name in names}
    write_tensors(backbone.encoder.state_dict(), record, path)


def load(path: str | Path) -> Backbone:
    """Read a backbone that :func:`save` wrote.

    Raises:
        ValueError: if the file is missing, damaged, foreign, or does not fit its own record.
    """
    tensors, metadata = read_tensors(path)
    if "architecture" not in metadata:
        raise ValueError(f"{path}: holds no backbone record; expected one of prepare_backbone")
    try:
        record: Any = from_metadata(metadata)
        _check_size(record["architecture"], tensors)
        encoder = _create(record["architecture"])
        encoder.load_state_dict(tensors)
        mean, std = tuple(map(float, record["mean"])), tuple(map(float, record["std"]))
        return Backbone(encoder, record["architecture"], mean, std, record["provenance"])
    except Exception as error:  # of many kinds, by what is broken in the record
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: weights do not fit the record ({text})") from error


def _check_size(architecture: Mapping, tensors: Mapping[str, torch.Tensor]) -> None:
    """Stop at a record of another size than the weights, before it takes any memory."""
    held = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    depth = architecture.get("options", {}).get("depth", len(held))
    if depth != len(held):
        raise ValueError(f"depth is {depth}; the file has {len(held)} blocks")
    with torch.device("meta"):
        wanted = sum(one.numel() for one in _create(architecture).state_dict().values())
    if wanted != (found := sum(one.numel() for one in tensors.values())):
        raise ValueError(f"the network has {wanted} numbers; the file has {found}")


def join_snapshots(folder: Path, path: str | Path) -> None:
    """Put the encoders that a training kept on its way into one file; none makes an empty file.

    Args:
        folder: of the snapshots; it may be missing.
        path: a safetensors file; the metadata say for each what had been learnt by then.
    """
    tensors: dict[str, torch.Tensor] = {}
    records = {}
    for file in sorted(folder.glob("*.safetensors")):
        kept, metadata = read_tensors(file)
        tensors |= {f"{file.stem}/{name}": value for name, value in kept.items()}
        records[file.stem] = from_metadata(metadata)
    write_tensors(tensors, {"snapshots": records}, path)


def snapshots(backbone: Backbone, path: str | Path) -> Iterator[tuple[dict, VisionTransformer]]:
    """The encoders of :func:`join_snapshots`, by images seen, in the same module.

    Args:
        backbone: of the same architecture; its encoder holds each snapshot in turn.
        path: the file.

    Yields:
        ``images`` (seen so far), ``loss`` and ``scores`` on validation; and the encoder.

    Raises:
        ValueError: if the file holds no snapshots, or those of another architecture.
    """
    tensors, metadata = read_tensors(path)
    if "snapshots" not in metadata:
        raise ValueError(f"{path}: holds no snapshots; expected a file of prepare_backbone")
    records: Any = from_metadata(metadata)["snapshots"]
    for key in sorted(records, key=int):
        own = {k.partition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{key}/")}
        try:
            backbone.encoder.load_state_dict(own)
        except RuntimeError as error:
            raise _misfit(path, error) from error
        yield records[key], backbone.encoder
