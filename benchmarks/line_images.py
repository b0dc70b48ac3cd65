"""Line images a second, against one picture at a time with a spreadsheet that grows.

The peer does for each image what the released generator of arXiv 2504.09393 does: draws with PIL,
adds NumPy's default Gaussian noise, saves a PNG, adds a row to its table and writes the whole table
again. Run: python benchmarks/line_images.py [--images 1200] [--rounds 3]
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from patchwork import stimuli
from patchwork.data import store
from patchwork.stimuli.common import palettes
from PIL import Image, ImageDraw

SETTINGS: dict[str, object] = {
    "image_px": 224,
    "length_px": {"min": 20, "max": 100},
    "width_px": {"min": 1, "max": 5},
    "palette": "basic11",
    "margin": "length_and_width",
    "noise_levels": [0.0, 0.1, 0.2, 0.3],
    "rasteriser": "pil",
}
PROCESSES = 4


def one_picture_at_a_time(folder: Path, n: int) -> None:
    draw, size = np.random.default_rng(0), 224
    names = list(palettes.BASIC11)
    table = pd.DataFrame()
    for i in range(n):
        angle, length = draw.uniform(0, 360), int(draw.integers(20, 101))
        width, colour = int(draw.integers(1, 6)), names[draw.integers(11)]
        margin, sd = length + width, draw.choice([0.0, 0.1, 0.2, 0.3])
        x, y = draw.integers(margin, size - margin, 2).tolist()
        end = (
            x + int(length * np.cos(np.deg2rad(angle))),
            y + int(length * np.sin(np.deg2rad(angle))),
        )
        picture = Image.new("RGB", (size, size))
        ImageDraw.Draw(picture).line((x, y, *end), fill=palettes.BASIC11[colour], width=width)
        noisy = np.asarray(picture) + draw.normal(0, sd * 255, (size, size, 3))
        name = folder / f"{i}.png"
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(name)
        row = {"name": name, "angle": angle, "start": (x, y), "end": end, "length": length}
        row |= {"width": width, "colour": colour, "noise": sd}
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
        table.to_csv(folder / "table.csv", index=False)


def in_memory(indices: range) -> int:
    parts = stimuli.stream("lines", SETTINGS, seed=1, indices=indices)
    return sum(len(batch) for batch in parts)


def to_file(path: Path, indices: range) -> Path:
    store.write(
        path,
        stimuli.stream("lines", SETTINGS, seed=1, indices=indices),
        n=len(indices),
        attributes={"seed": 1, "settings": SETTINGS, "first_index": indices.start, "code": ""},
        label_attributes=stimuli.LABELS["lines"](SETTINGS),
    )
    return path


def to_merged_file(pool: ProcessPoolExecutor, folder: Path, n: int) -> None:
    size = n // PROCESSES
    parts = [range(first, first + size) for first in range(0, n, size)]
    shards = pool.map(to_file, [folder / f"{part.start}.h5" for part in parts], parts)
    store.merge(list(shards), folder / "merged.h5")


def rate(n: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return n / (time.perf_counter() - start)


def main(n: int, rounds: int) -> None:
    # The pool draws more, so that starting a task weighs little; its rate is per image too.
    shards = [range(i * 10 * n // 20, (i + 1) * 10 * n // 20) for i in range(20)]
    rows = []
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(PROCESSES, context) as pool:
        folder = Path(name)
        list(pool.map(in_memory, [range(64)] * PROCESSES * 4))
        in_memory(range(64))
        for _ in range(rounds):
            rows.append(
                {
                    "one picture at a time": rate(n, lambda: one_picture_at_a_time(folder, n)),
                    "in memory, 1 process": rate(n, lambda: in_memory(range(n))),
                    "into HDF5, 1 process": rate(n, lambda: to_file(folder / "a.h5", range(n))),
                    f"in memory, {PROCESSES} processes": rate(
                        10 * n, lambda: list(pool.map(in_memory, shards))
                    ),
                    f"into HDF5, {PROCESSES} shards, merged": rate(
                        4 * n, lambda: to_merged_file(pool, folder, 4 * n)
                    ),
                }
            )
    table = pd.DataFrame(rows)
    ratio = table.div(table["one picture at a time"], axis=0)
    print(f"{n} images of 224 x 224 px, {rounds} rounds; ratio to the peer of the same round")
    for name in table:
        print(
            f"{name:28s} {table[name].median():8.0f} images/s   ratio {ratio[name].median():6.1f} "
            f"({ratio[name].min():.1f}-{ratio[name].max():.1f})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.images, given.rounds)
