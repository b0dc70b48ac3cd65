"""Data cards: what an image dataset is, measured from its own files, in Markdown."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchwork.data import store
from patchwork.jobs.provenance import file_sha256
from patchwork.stimuli import chirps, spectrograms
from patchwork.stimuli.common.batch import LabelAttributes

# Regions vary little from figure to figure; reading all would take as long as reading all images.
IMAGES_SAMPLED = 200
_BATCH = 32
_SHARED = ("schema", "schema_version", "seed", "settings", "code")


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


@dataclass(frozen=True)
class Split:
    """What one file of a dataset holds.

    Attributes:
        path: the file.
        attributes: how it was made.
        shape: of the images, with their number first.
        labels: name to array of shape (n,).
        units: unit and range of each label.
        indices: name of an extra to the share of pixels that each index has in each sampled
            image, shape (sampled, 256).
        sha256: digest of the file's bytes.
    """

    path: Path
    attributes: Mapping[str, object]
    shape: tuple[int, ...]
    labels: Mapping[str, np.ndarray]
    units: Mapping[str, LabelAttributes]
    indices: Mapping[str, np.ndarray]
    sha256: str

    @property
    def numbers(self) -> range:
        """The image numbers."""
        first = int(str(self.attributes["first_index"]))
        return range(first, first + self.shape[0])


@dataclass(frozen=True)
class Named:
    """What a card says that its files do not.

    Attributes:
        dataset: name of the dataset.
        licence: under which images and code may be used.
        reference: the paper whose images these are.
    """

    dataset: str
    licence: str
    reference: str


def measure(path: str | Path) -> Split:
    """Reads what a card says about one file; of the images, a sample spread over the file.

    Args:
        path: a file of `store`.

    Returns:
        Labels of all images, shares of pixels of at most `IMAGES_SAMPLED`.

    Raises:
        ValueError: if the file is not a dataset.
    """
    with store.Reader(path) as reader:
        n = len(reader)
        rows = np.unique(np.linspace(0, n - 1, min(n, IMAGES_SAMPLED)).astype(np.int64))
        shares: dict[str, list[np.ndarray]] = {name: [] for name in reader.file.get("extras", {})}
        for batch in reader.batches(rows, _BATCH) if shares else ():
            for name, values in batch.extras.items():
                shares[name] += [np.bincount(one.ravel(), minlength=256) for one in values]
        pixels = int(np.prod(reader.images.shape[1:3]))
        return Split(
            path=Path(path),
            attributes=reader.attributes,
            shape=reader.images.shape,
            labels=reader.labels,
            units=reader.label_attributes,
            indices={name: np.stack(counts) / pixels for name, counts in shares.items()},
            sha256=file_sha256(path),
        )


def card(splits: Mapping[str, Split], named: Named) -> str:
    """Writes the card of a dataset.

    Args:
        splits: name to what `measure` found, at least one.
        named: what the files do not say.

    Returns:
        Markdown.

    Raises:
        ValueError: if the files are not of one dataset, share images, or are of a kind that has no
            words yet.
    """
    _check(splits)
    first = next(iter(splits.values()))
    settings = dict(first.attributes["settings"])  # type: ignore[call-overload]
    kind = settings.pop("kind")
    if kind != "chirps":
        raise ValueError(f"kind is {kind!r}; a data card is there for chirps")
    words = about(settings)
    total = sum(split.shape[0] for split in splits.values())
    parts = [
        f"# Dataset `{named.dataset}`: {total:,} labelled images",
        *words.image,
        "## How the images were made",
        _table(("what", "value"), _made(first)),
        "## Files",
        *_files(splits),
        "## Labels",
        *_labels(splits, words),
        *_regions(splits, words),
        "## Out of the ordinary",
        "Share of images, counted in all labels:",
        _table(("what", *splits), _cases(splits, words)),
        "## How to read it",
        _reading(list(splits.values())[-1], words),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in words.limits),
        "## Licence and citation",
        f"Licence: {named.licence}. Please cite the paper that describes the images: "
        f"{named.reference}",
    ]
    return "\n\n".join(parts) + "\n"


def _check(splits: Mapping[str, Split]) -> None:
    """Stops if the files are not of one dataset, or if two of them share images."""
    earlier: list[Split] = []
    for split in splits.values():
        for other in earlier:
            for key in _SHARED:
                own, expected = split.attributes.get(key), other.attributes.get(key)
                if own != expected:
                    raise ValueError(
                        f"{split.path}: {key} is {own!r}; allowed is that of {other.path}, "
                        f"{expected!r}"
                    )
            if max(split.numbers[0], other.numbers[0]) <= min(split.numbers[-1], other.numbers[-1]):
                raise ValueError(
                    f"{split.path}: images are {_span(split)}; allowed is none of {other.path}, "
                    f"{_span(other)}"
                )
        earlier.append(split)


def _span(split: Split) -> str:
    return f"{split.numbers[0]:,} to {split.numbers[-1]:,}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _share(holds: np.ndarray) -> str:
    return _percent(float(np.mean(holds)))


def _made(split: Split) -> list[tuple[str, str]]:
    settings = json.dumps(split.attributes["settings"], sort_keys=True)
    return [
        ("settings", f"`{settings}`"),
        ("seed", f"{split.attributes['seed']}; an image depends on settings, seed and its number"),
        ("digest of the code", f"`{split.attributes['code']}`"),
        ("layout", f"`{split.attributes['schema']}`, version {split.attributes['schema_version']}"),
        ("image", f"{' x '.join(map(str, split.shape[1:]))}, uint8, 0 to 255, rows from the top"),
    ]


def _files(splits: Mapping[str, Split]) -> list[str]:
    rows = [
        (f"`{split.path.name}`", name, f"{split.shape[0]:,}", _span(split),
         f"{split.path.stat().st_size / 1e6:,.1f}")
        for name, split in splits.items()
    ]  # fmt: skip
    digests = "\n".join(f"{split.sha256}  {split.path.name}" for split in splits.values())
    return [
        _table(("file", "split", "images", "image numbers", "MB"), rows),
        "SHA-256 of each file, as `sha256sum --check` reads it:",
        f"```text\n{digests}\n```",
    ]


def _labels(splits: Mapping[str, Split], words: About) -> list[str]:
    found = list(splits.values())
    units = found[0].units
    defined = [
        (f"`{name}`", words.labels[name], one.units, f"{one.minimum:g} to {one.maximum:g}")
        for name, one in units.items()
    ]
    columns = ("label", "split", "min", "mean", "max", "missing")
    measured = [
        (f"`{name}`", split, *_distribution(one.labels[name]))
        for name, label in units.items()
        if not label.names
        for split, one in splits.items()
    ]
    named = [
        (f"`{name}`", f"{index}: {word}", *(_share(one.labels[name] == index) for one in found))
        for name, label in units.items()
        for index, word in enumerate(label.names)
    ]
    return [
        _table(("label", "meaning", "unit", "range"), defined),
        "Measured on all images; missing is the share of nan:",
        _table(columns, measured),
        "Share of images with each index:",
        _table(("label", "index", *splits), named),
    ]


def _distribution(values: np.ndarray) -> tuple[str, str, str, str]:
    known = values[~np.isnan(values)]
    numbers = (known.min(), known.mean(), known.max()) if len(known) else (np.nan,) * 3
    return (*map(_number, numbers), _share(np.isnan(values)))  # type: ignore[return-value]


def _regions(splits: Mapping[str, Split], words: About) -> list[str]:
    parts = []
    for extra, names in words.extras.items():
        shares = np.concatenate([split.indices[extra] for split in splits.values()])
        rows = [
            (str(index), name, *(_percent(value) for value in _spread(shares[:, index])))
            for index, name in enumerate(names)
        ]
        parts += [
            f"## `extras/{extra}`",
            f"For each pixel the index of what it shows; share of pixels in an image, measured on "
            f"{len(shares):,} images spread over all splits:",
            _table(("index", "what", "min", "mean", "max"), rows),
        ]
    return parts


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    return values.min(), values.mean(), values.max()


def _cases(splits: Mapping[str, Split], words: About) -> list[tuple[str, ...]]:
    return [
        (case, *(_share(holds(split.labels)) for split in splits.values()))
        for case, holds in words.cases.items()
    ]


def _reading(split: Split, words: About) -> str:
    extra = next(iter(words.extras))
    shape = " x ".join(map(str, (min(8, split.shape[0]), *split.shape[1:])))
    code = f"""```python
import h5py
import hdf5plugin  # unpacks images; imported for that alone

with h5py.File("{split.path.name}") as file:
    labels = {{name: column[:] for name, column in file["labels"].items()}}
    units = {{name: column.attrs["units"].decode() for name, column in file["labels"].items()}}
    images = file["images"][:8]  # {shape}
    {extra} = file["extras/{extra}"][:8, ..., 0]
for name in labels:
    print(name, labels[name][:3], units[name])
print(images.shape, {extra}.shape)
```"""
    return (
        f"{code}\n\nOne image is one chunk, so single images in any order cost no more than "
        "neighbours. `patchwork.data.store.Reader` does the same and streams shuffled batches."
    )


# What the files cannot say themselves.

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


def _unusual(parsed: chirps.ChirpSettings) -> dict[str, Callable[[Labels], np.ndarray]]:
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


def about(settings: Mapping[str, object]) -> About:
    """What a reader must know about chirps of these settings that their files cannot say."""
    parsed = chirps.parse_settings(settings)
    return About(
        image=_image(parsed),
        labels={name: _LABELS[name] for name in chirps.label_attributes(settings)},
        extras={"regions": chirps.REGIONS},
        cases=_unusual(parsed),
        limits=_limits(parsed),
    )
