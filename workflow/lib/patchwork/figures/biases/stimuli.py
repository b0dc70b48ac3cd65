"""What the stimuli look like: a few images of each dataset."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from patchwork.figures import theme
from patchwork.figures.panels import words


def _check(images: Mapping[str, np.ndarray]) -> None:
    if not images:
        raise ValueError("samples: images has 0 datasets; at least 1 is needed")
    for name, pixels in images.items():
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or not len(pixels):
            raise ValueError(
                f"samples: images[{name!r}] is {pixels.dtype} of shape {pixels.shape}; "
                "allowed is uint8 of shape (n, height, width, 3) with n >= 1"
            )


@theme.styled
def samples(
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]] | None = None,
    title: str = "Images of each dataset",
) -> Figure:
    """A row of images for each dataset.

    Args:
        images: dataset to uint8 array of shape (n, height, width, 3), sRGB; n may differ.
        labels: dataset to n short texts, drawn under the images.
        title: what the rows are.

    Returns:
        A figure of 17 cm width.

    Raises:
        ValueError: if an array is not of the allowed kind.
    """
    _check(images)
    most = max(len(pixels) for pixels in images.values())
    side = theme.DOUBLE_CM / (most + 0.9)
    height = len(images) * (side + (0.75 if labels else 0.15))
    figure = Figure((theme.DOUBLE_CM * theme.CM, height * theme.CM), layout="constrained")
    axes = figure.subplots(len(images), most, squeeze=False)
    room = 72 * theme.CM * side - 4
    for row, (name, pixels) in zip(axes, images.items(), strict=True):
        row[0].set_ylabel(words(name), weight="bold")
        for column, panel in enumerate(row):
            panel.set(xticks=[], yticks=[])
            panel.set_visible(column < len(pixels))
            if column >= len(pixels):
                continue
            panel.imshow(pixels[column], interpolation="nearest")
            if labels and name in labels:
                panel.set_xlabel("\n".join(theme.wrap(labels[name][column], room)))
    return theme.finish(figure, title, _caption(images))


def _caption(images: Mapping[str, np.ndarray]) -> str:
    parts = [
        f"{words(name)} n = {len(pixels)} ({pixels.shape[2]} \u00d7 {pixels.shape[1]} px)"
        for name, pixels in images.items()
    ]
    return f"Images as the network receives them, before normalisation: {', '.join(parts)}."
