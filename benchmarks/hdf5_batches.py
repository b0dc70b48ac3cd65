"""Shuffled batches from one HDF5 file, against PNG files (level 1) read through PIL.

Run: python benchmarks/hdf5_batches.py [--images 2000] [--rounds 5]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from patchwork import stimuli
from patchwork.data import store
from PIL import Image

BATCH = 64
SETTINGS: dict[str, object] = {
    "image_px": 224,
    "length_px": {"min": 20, "max": 100},
    "width_px": {"min": 1, "max": 5},
    "palette": "basic11",
    "margin": "length_and_width",
    "noise_levels": [0.0, 0.1, 0.2, 0.3],
    "rasteriser": "pil",
}


def prepare(folder: Path, n: int) -> None:
    store.write(
        folder / "lines.h5",
        stimuli.stream("lines", SETTINGS, seed=1, indices=range(n)),
        n=n,
        attributes={"seed": 1, "settings": SETTINGS, "first_index": 0, "code": "benchmark"},
        label_attributes=stimuli.LABELS["lines"](SETTINGS),
    )
    for i, image in enumerate(store.read(folder / "lines.h5").images):
        Image.fromarray(image).save(folder / f"{i}.png", compress_level=1)


def from_hdf5(folder: Path, order: np.ndarray) -> int:
    with store.Reader(folder / "lines.h5") as reader:
        return sum(int(batch.images[:, 0, 0].sum()) for batch in reader.batches(order, BATCH))


def from_png(folder: Path, order: np.ndarray) -> int:
    total = 0
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        out = np.empty((len(rows), 224, 224, 3), dtype=np.uint8)
        for target, row in zip(out, rows, strict=True):
            with Image.open(folder / f"{row}.png") as picture:
                target[:] = np.asarray(picture)
        total += int(out[:, 0, 0].sum())
    return total


def main(n: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, n)
        rates: dict[str, list[float]] = {"hdf5": [], "png": []}
        for turn in range(rounds):
            order = np.random.default_rng(turn).permutation(n)
            sums = set()
            for kind, work in (("hdf5", from_hdf5), ("png", from_png)):
                start = time.perf_counter()
                sums.add(work(folder, order))
                rates[kind].append(n / (time.perf_counter() - start))
            assert len(sums) == 1, "both must read the same pixels"
        png = sum(path.stat().st_size for path in folder.glob("*.png"))
        size = (folder / "lines.h5").stat().st_size
    ratio = np.array(rates["hdf5"]) / np.array(rates["png"])
    print(f"{n} images of 224 x 224 px, shuffled batches of {BATCH}, {rounds} rounds")
    for kind, values in rates.items():
        print(f"{kind}: {np.median(values):.0f} images/s")
    print(f"ratio {np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f})")
    print(f"size: HDF5 / PNG level 1 = {size / png:.3f}; HDF5 / raw = {size / (n * 150528):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    main(given.images, given.rounds)
