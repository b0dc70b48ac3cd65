"""Figures of chirps as arrays, against one matplotlib figure for each image.

Peers draw the same spectrograms with the same titles: one makes a figure per image and closes it,
as the released generator of arXiv 2503.22713 does (without its PNG file), the other draws one
figure again and again. Both then resize by PIL's bilinear filter.
Run: PYTHONPATH=benchmarks python benchmarks/chirp_figures.py [--images 32] [--rounds 3]
"""

import argparse
import time

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from paired import Contender, alternate, report
from patchwork.stimuli import chirps
from patchwork.stimuli.chirp_figure import frames, sheet
from PIL import Image

RIDGE: dict[str, object] = {"image_px": 64, "signal": "ridge"}
WAVEFORM: dict[str, object] = {
    "image_px": 64,
    "signal": "waveform",
    "snr_db": {"min": -15, "max": 5},
    "sweeps": ["linear", "exponential", "curved"],
}
SIZES = ((224, 224), (480, 640))


def one_figure_each(array: np.ndarray, title: str) -> np.ndarray:
    figure, axes = plt.subplots()
    shown = axes.imshow(
        array, aspect="auto", origin="lower", extent=(0, 60, 0, 100), cmap="viridis"
    )
    figure.colorbar(shown, label="Intensity")
    axes.set_xlabel("Time (s)")
    axes.set_ylabel("Frequency (Hz)")
    axes.set_title(title)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return picture


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def contenders(size: tuple[int, int], n: int) -> list[Contender]:
    arrays = chirps.arrays(RIDGE, seed=1, indices=range(n))
    captions = [frames.Caption("linear chirp", 1000 + i) for i in range(n)]
    composed, reference = frames.frames(*size), sheet.Sheet()
    ours = Contender(
        "composed from parts",
        lambda: np.stack(
            [composed.picture(*given) for given in zip(arrays, captions, strict=True)]
        ),
    )
    peer = Contender(
        "one matplotlib figure each",
        lambda: np.stack(
            [
                resized(one_figure_each(array, caption.text), size)
                for array, caption in zip(arrays, captions, strict=True)
            ]
        ),
    )
    reused = Contender(
        "one matplotlib figure reused",
        lambda: np.stack(
            [
                resized(reference.draw(array, caption.text), size)
                for array, caption in zip(arrays, captions, strict=True)
            ]
        ),
    )
    return [ours, peer, reused]


def main(n: int, rounds: int) -> None:
    print(f"matplotlib {matplotlib.__version__}, {n} images, {rounds} rounds")
    for size in SIZES:
        ours, *peers = contenders(size, n)
        # Glyphs are drawn on first use and then kept: a dataset pays that once a process.
        started = time.perf_counter()
        ours.run()
        print(f"\nfirst pass over {n} images: {time.perf_counter() - started:.1f} s")
        alternate([ours, *peers], rounds)
        for contender in (ours, *peers):
            assert contender.result is not None
            # Signed, so that differences of levels do not wrap around.
            contender.result = contender.result.astype(np.int16)
        report(f"Chirp figures of {size[1]} x {size[0]} px", ours, peers, {})
        for contender in (ours, *peers):
            print(f"{contender.name:30s} {n / np.median(contender.seconds):8.1f} images/s")
        assert ours.result is not None
        assert peers[0].result is not None
        apart = np.abs(ours.result - peers[0].result).max(axis=-1)
        print(f"pixels that differ by more than 8 of 255: {np.mean(apart > 8):.1e}")
    print("\n## Whole images with regions and labels, one process\n")
    for name, settings in (
        ("ridge, plain, 64 px", RIDGE),
        ("waveform, plain, 64 px", WAVEFORM),
        ("ridge, plain, 224 px", {**RIDGE, "image_px": 224}),
        ("ridge, figure, 64 px", {**RIDGE, "rendering": "decorated"}),
        ("ridge, figure, 224 px", {**RIDGE, "image_px": 224, "rendering": "decorated"}),
    ):
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            made = len(chirps.generate(settings, seed=1, indices=range(400)))
            seconds.append(time.perf_counter() - started)
        print(f"{name:30s} {made / np.median(seconds[1:]):8.0f} images/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.images, given.rounds)
