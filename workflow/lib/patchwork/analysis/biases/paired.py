"""Angle errors of a network on the same lines in every colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from patchwork.analysis.biases.colour import CHANNELS
from patchwork.models import tasks
from patchwork.models.fine_tuned import Network
from patchwork.statistics.metrics import signed_circular_error
from patchwork.stimuli import lines
from patchwork.stimuli.common import palettes

_HELD = 256  # images drawn at once


def colours_of(palette: str, n_hues: int) -> pd.DataFrame:
    """The colours in which the lines of a palette are drawn.

    Args:
        palette: name; of ``hue_circle`` evenly spaced hues are taken, of others every colour.
        n_hues: such hues, a divisor of 360.

    Returns:
        Columns colour (name), red, green, blue, hue_deg (nan where not varied).
    """
    if palette == "hue_circle":
        rgb, hue = palettes.hue_circle(n_hues), np.arange(n_hues) * (360 / n_hues)
        names = [f"hue {degrees:g} deg" for degrees in hue]
    else:
        found = palettes.palette(palette)
        rgb, hue, names = found.rgb, found.hue_deg, list(found.names)
    table = pd.DataFrame(rgb.astype(int), columns=CHANNELS)
    return table.assign(colour=names, hue_deg=hue)


@torch.no_grad()
def paired_errors(
    network: Network,
    images: Mapping[str, Any],
    colours: pd.DataFrame,
    periods: Mapping[str, float],
    n_lines: int,
) -> pd.DataFrame:
    """Errors of the predicted angle of every line in every colour.

    Args:
        network: merged, in eval mode.
        images: ``settings``, ``seed`` and ``first_index`` of the lines.
        colours: of :func:`colours_of`.
        periods: labels of angles to degrees after which they repeat; the first that the network
            predicts counts.
        n_lines: lines.

    Returns:
        The table ``paired_colours.parquet`` without seed.
    """
    predicted = [name for target in network.targets.values() for name in target.labels]
    label = next(name for name in periods if name in predicted)
    rgb, parts = colours[CHANNELS].to_numpy(), []
    step = max(1, _HELD // len(rgb))
    for first in range(0, n_lines, step):
        numbers = np.arange(first, min(first + step, n_lines))
        drawn, labels = lines.in_colours(
            images["settings"], rgb, seed=images["seed"], indices=images["first_index"] + numbers
        )
        flat = torch.from_numpy(drawn.reshape(-1, *drawn.shape[2:])).to(network.mean.device)
        outputs = {name: value.float().cpu().numpy() for name, value in network(flat).items()}
        found = tasks.decode_all(network.targets, outputs)[label]
        true = np.tile(labels[label].astype(float), len(rgb))
        signed = signed_circular_error(found, true, periods[label])
        part = colours.loc[np.repeat(colours.index, len(numbers))].reset_index(drop=True)
        rest = {"example": np.tile(numbers, len(rgb)), "angle_deg": true, "predicted_deg": found}
        parts.append(part.assign(**rest, error_deg=np.abs(signed)))
    return pd.concat(parts, ignore_index=True)


def periods_of(labels: Sequence[str], attributes: Mapping[str, Any]) -> dict[str, float]:
    """Degrees after which each label repeats: its largest value."""
    return {name: float(attributes[name].maximum) for name in labels}
