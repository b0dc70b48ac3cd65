"""What a reader must know about images of a kind that their files cannot say themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from patchwork.stimuli import chirps, spectrograms

Labels = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class About:
    """Words about one dataset.

    Attributes:
        image: what an image shows and how it comes about, one paragraph each.
        labels: name to meaning, for every label.
        extras: name of an extra picture to the names of the indices that it holds.
        cases: what is out of the ordinary, and which images it holds for: labels, name to array of
            shape (n,), to shape (n,), bool.
        limits: what the images must not be taken for.
    """

    image: tuple[str, ...]
    labels: Mapping[str, str]
    extras: Mapping[str, tuple[str, ...]]
    cases: Mapping[str, Callable[[Labels], np.ndarray]]
    limits: tuple[str, ...]


_LABELS = {
    "start_s": "first moment of the chirp",
    "duration_s": "length of the chirp",
    "start_hz": "frequency at the first moment",
    "end_hz": "frequency at the last moment",
    "noise_sd": "standard deviation of the noise before smoothing, over the peak of the ridge",
    "snr_db": "power of the chirp while it lasts over that of the noise from 0 to 100 Hz",
    "sweep": "how the frequency changes",
    "present": "whether there is a chirp",
}


def _ridge_words() -> str:
    return (
        "The spectrogram is drawn, not measured: in each column, the five rows nearest to the "
        "chirp's frequency hold exp(-d^2), with the distance d in rows; Gaussian noise is added "
        "and the sum smoothed by a Gaussian of one cell."
    )


def _waveform_words() -> str:
    return (
        f"The spectrogram is measured: a chirp in 1/f noise, sampled at "
        f"{spectrograms.SAMPLE_RATE_HZ:.1f} Hz, goes through a short-time Fourier transform "
        f"({spectrograms.WINDOW} window of {spectrograms.WINDOW_SAMPLES} samples, hop of "
        f"{spectrograms.HOP_SAMPLES}, {spectrograms.FFT_POINTS} points); cells are in dB."
    )


def _frame_words(parsed: chirps.ChirpSettings) -> str:
    size = f"{parsed.image_px} x {parsed.image_px} px"
    if parsed.rendering == "plain":
        return f"The picture is the bare data area, resized to {size} by a bilinear filter."
    title = "a title with the image's number and sweep" if parsed.titled else "no title"
    return (
        f"The picture is a matplotlib figure of 640 x 480 px with axes in s and Hz, a colour bar "
        f"and {title}, resized to {size} by a bilinear filter, so that it is narrower than the "
        f"figure was."
    )


def _image(parsed: chirps.ChirpSettings) -> tuple[str, ...]:
    drawn = (
        "An image is a spectrogram of 60 s and 0 to 100 Hz, on a grid of 128 x 128 cells, with at "
        "most one chirp: a tone whose frequency changes from one end to the other."
    )
    ranges = (
        "Start, duration, start frequency and noise are uniform over their ranges, sweeps equally "
        "likely; the end frequency is the start frequency and a step, uniform from -30 to 30 Hz, "
        "cut off at 0 and 100 Hz."
    )
    colours = "Colours are viridis, from the least to the greatest value of each image."
    words = _ridge_words() if parsed.signal == "ridge" else _waveform_words()
    return drawn, f"{words} {ranges}", f"{_frame_words(parsed)} {colours}"


def _limits(parsed: chirps.ChirpSettings) -> tuple[str, ...]:
    found = [
        "Images are synthetic; how a model does on them says nothing yet about recordings.",
        "Colours are scaled image by image, so absolute power cannot be read from them; a figure's "
        "colour bar gives the scale only in print."
        if parsed.rendering == "decorated"
        else "Colours are scaled image by image, so absolute power cannot be read from them.",
        f"An exponential sweep cannot pass through zero: an end below "
        f"{spectrograms.EXPONENTIAL_FLOOR_HZ:.2f} Hz, half a row, is drawn as that; the label "
        f"keeps the end that was asked for.",
        "One row is 0.78 Hz and one column 0.47 s: finer differences are in the labels, hardly in "
        "the picture.",
        "Where the step is cut off at 0 or 100 Hz, end frequencies pile up on those two values.",
        "nan in a label means that the image has no chirp and so no such number; `sweep` is then "
        "the one it would have had."
        if parsed.presence_probability < 1
        else "nan in a label would mean that an image has no chirp; here every image has one, so "
        "nothing can be learnt about absence.",
    ]
    if parsed.titled:
        found.insert(
            0,
            "The title gives away the sweep in words, and the number of the image, hence its "
            "split: whoever predicts the sweep from whole figures may be reading.",
        )
    return tuple(found)


def _cases(parsed: chirps.ChirpSettings) -> dict[str, Callable[[Labels], np.ndarray]]:
    top, floor = spectrograms.FREQUENCY_MAX_HZ, spectrograms.EXPONENTIAL_FLOOR_HZ
    exponential = spectrograms.SWEEPS.index("exponential")

    def step(labels: Labels) -> np.ndarray:
        return np.abs(labels["end_hz"] - labels["start_hz"])

    def floored(labels: Labels) -> np.ndarray:
        lowest = np.minimum(labels["start_hz"], labels["end_hz"])
        return (labels["sweep"] == exponential) & (lowest < floor)

    found: dict[str, Callable[[Labels], np.ndarray]] = {
        "sweep ends at 0 Hz exactly": lambda labels: labels["end_hz"] == 0,
        f"sweep ends at {top:.0f} Hz exactly": lambda labels: labels["end_hz"] == top,
        "sweep changes by less than one row (0.78 Hz)": lambda labels: (
            step(labels) < spectrograms.ROW_HZ
        ),
    }
    if "exponential" in parsed.sweeps:
        found[f"exponential sweep with an end below {floor:.2f} Hz"] = floored
    return found


def _chirps(settings: Mapping[str, object]) -> About:
    parsed = chirps.parse_settings(settings)
    return About(
        image=_image(parsed),
        labels={name: _LABELS[name] for name in chirps.label_attributes(settings)},
        extras={"regions": chirps.REGIONS},
        cases=_cases(parsed),
        limits=_limits(parsed),
    )


_ABOUT = {"chirps": _chirps}


def about(kind: str, settings: Mapping[str, object]) -> About:
    """Words about images of these settings.

    Args:
        kind: a kind of stimulus that has words: "chirps".
        settings: what that generator takes.

    Returns:
        The words.

    Raises:
        ValueError: if the kind has no words, or as the generator raises.
    """
    if kind not in _ABOUT:
        raise ValueError(f"kind is {kind!r}; a data card is there for {', '.join(_ABOUT)}")
    return _ABOUT[kind](settings)
