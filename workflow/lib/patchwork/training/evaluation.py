"""Run a network over a whole source and set its predictions beside the labels."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from patchwork.jobs.log import Progress
from patchwork.models import fine_tuned, tasks
from patchwork.models.fine_tuned import Network
from patchwork.training import feeding

if TYPE_CHECKING:
    # A source brings generators and HDF5 with it, which a training does without.
    from patchwork.data.sources import Source


@torch.no_grad()
def validate(
    network: Network, source: "Source", batch_size: int
) -> tuple[list[tuple[str, str, float, float]], float]:
    """Loss of each target and correlation of each label over a whole source.

    Args:
        network: any mode; it is in eval mode afterwards.
        source: examples.
        batch_size: examples at once.

    Returns:
        Rows of target, label, loss and Pearson r (nan for pictures and constants; for classes the
        share that is right), and the weighted total loss.
    """
    outputs, labels = collect(network, source, batch_size)
    rows, total = [], 0.0
    for name, target in network.targets.items():
        encoded = torch.from_numpy(target.encode(labels))
        loss = float(target.losses(torch.from_numpy(outputs[name]), encoded).double().mean())
        total += target.weight * loss
        if target.reads == "patches":
            rows.append((name, name, loss, math.nan))
            continue
        decoded = target.encoding.decode(outputs[name].astype(float))
        score = _share_right if isinstance(target.encoding, tasks.Category) else _correlation
        rows += [
            (name, label, loss, score(decoded[:, i], labels[label]))
            for i, label in enumerate(target.labels)
        ]
    return rows, total


def _share_right(predicted: np.ndarray, actual: np.ndarray) -> float:
    return float((predicted == actual).mean())


def _correlation(predicted: np.ndarray, actual: np.ndarray) -> float:
    known = ~np.isnan(actual)
    predicted, actual = predicted[known], actual[known]
    if not len(actual):
        return math.nan
    if np.ptp(predicted) == 0 or np.ptp(actual) == 0:
        return math.nan
    return float(np.corrcoef(predicted, actual)[0, 1])


@torch.no_grad()
def collect(
    network: Network, source: "Source", batch_size: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs of a network for a whole source, with the labels.

    Returns:
        target name to float32 outputs, and label name to values, in the order of the source.
    """
    network.eval()
    outputs: dict[str, list[torch.Tensor]] = {}
    columns: dict[str, list[np.ndarray]] = {}

    def keep(labels: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        for name, column in labels.items():
            columns.setdefault(name, []).append(column)
        return {}

    drawn = source.batches(np.arange(len(source)), max(batch_size, 128))
    for inputs, _ in feeding.on_device(drawn, keep, network.mean.device):
        for name, value in network(inputs).items():
            # Fetched at the end: a GPU is given the next batch without waiting for this one.
            outputs.setdefault(name, []).append(value.float())
    joined = {name: torch.cat(parts).cpu().numpy() for name, parts in outputs.items()}
    return joined, {name: np.concatenate(parts) for name, parts in columns.items()}


def predictions(network: Network, source: "Source", batch_size: int = 256) -> pd.DataFrame:
    """What a network predicts for each example, beside what is true.

    Args:
        network: merged or not; it is in eval mode afterwards.
        source: test examples.
        batch_size: examples at once.

    Returns:
        The table ``predictions.parquet`` without seed.
    """
    # Convolutions on a GPU round to ten bits unless they are forbidden to.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        outputs, labels = collect(network, source, batch_size)
    plain = {name: column for name, column in labels.items() if column.ndim == 1}
    columns = {"index": np.arange(len(source)), **plain}
    for name, values in tasks.decode_all(network.targets, outputs).items():
        columns[f"predicted_{name}"] = values
    for name, target in network.targets.items():
        encoded = torch.from_numpy(target.encode(labels))
        losses = target.losses(torch.from_numpy(outputs[name]), encoded)
        columns[f"loss_{name}"] = losses.double().numpy()
        if isinstance(target.encoding, tasks.Category) and target.encoding.n_classes == 2:
            scores = outputs[name].astype(float)
            columns[f"score_{target.labels[0]}"] = scores[:, 1] - scores[:, 0]
    return pd.DataFrame(columns)


def of_seeds(
    measure: Callable[[Network], pd.DataFrame],
    files: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    device: str,
    *,
    share_vectors: bool = False,
) -> pd.DataFrame:
    """Measure the networks of all seeds of a condition, one after the other.

    Args:
        measure: of a merged network in eval mode.
        files: fine-tuned model and its backbone, one pair per seed.
        seeds: in the order of the files.
        device: as for torch.
        share_vectors: whether seeds that share a backbone and left it frozen compute the read-out
            vectors of images once. For measures that only predict: an edit inside of the encoder,
            or its time, would not be seen.

    Returns:
        The rows of every measurement, with a column seed.
    """
    progress, parts = Progress("seeds", len(seeds)), []
    kept: dict[bytes, torch.Tensor] = {}
    shared = share_vectors and len({backbone for _, backbone in files}) == 1 and len(files) > 1
    for (model, backbone), seed in zip(files, seeds, strict=True):
        network = fine_tuned.load(model, backbone).to(torch.device(device))
        if shared and network.frozen:
            fine_tuned.share_vectors(network, kept)
        parts.append(measure(network).assign(seed=seed))
        progress.step(len(parts))
    return pd.concat(parts, ignore_index=True)


def time_passes(
    network: Network, source: "Source", *, n_images: int, repetitions: int, batch_size: int = 256
) -> pd.DataFrame:
    """Time whole passes over the same images, reading included, after one that is not counted.

    Args:
        network: merged or not; it is in eval mode afterwards.
        source: examples; the first ones are used.
        n_images: at most so many.
        repetitions: passes that are timed.
        batch_size: examples at once.

    Returns:
        The table ``timings.csv`` without seed.
    """
    network.eval()
    order = np.arange(min(n_images, len(source)))
    device = network.mean.device
    rows = []
    for repetition in range(-1, repetitions):
        start = time.perf_counter()
        with torch.no_grad():
            drawn = source.batches(order, batch_size)
            for inputs, _ in feeding.on_device(drawn, lambda _: {}, device):
                outputs = network(inputs)
        # An accelerator's work counts when its result has arrived.
        next(iter(outputs.values())).cpu()
        seconds = time.perf_counter() - start
        rows.append({"repetition": repetition, "seconds": seconds, "n_images": len(order)})
    return pd.DataFrame(rows[1:])
