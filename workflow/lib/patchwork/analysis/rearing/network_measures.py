"""Every measure of one reared network, at its end and at each encoder kept on the way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from patchwork.analysis.rearing import orientation_probes
from patchwork.analysis.rearing.orientation_probes import ColourImages, ProbeImages, ProbeSizes
from patchwork.models import backbones


@dataclass(frozen=True)
class Probes:
    """What every network of a study is asked about.

    Attributes:
        lines: lines and noise of all orientations.
        colours: lines in each basic colour.
        bluish: colours of one side.
        yellowish: colours of the other.
    """

    lines: ProbeImages
    colours: ColourImages
    bluish: tuple[str, ...]
    yellowish: tuple[str, ...]


def probes(settings: Mapping[str, Any], image_px: int) -> Probes:
    """Draw the probes of a study once, for all of its networks.

    Args:
        settings: `probes` (`seed`, `sizes` and `colours`), `bluish` and `yellowish`.
        image_px: side of the images that the networks take.
    """
    drawn = settings["probes"]
    common: dict[str, Any] = {"image_px": image_px, "seed": drawn["seed"]}
    return Probes(
        orientation_probes.probe_images(**common, sizes=ProbeSizes(**drawn["sizes"])),
        orientation_probes.colour_images(**common, **drawn["colours"]),
        tuple(settings["bluish"]),
        tuple(settings["yellowish"]),
    )


@dataclass(frozen=True)
class Stage:
    """A network at one moment of its rearing.

    Attributes:
        images: seen so far; 0 for a network that nothing trained.
        accuracy: share of validation images whose class it named; None where it was not asked.
        backbone: the network, in eval mode.
        last: whether this is the end of its rearing.
    """

    images: int
    accuracy: float | None
    backbone: backbones.Backbone
    last: bool


def stages(path: str | Path, snapshots: str | Path, label: str) -> Iterator[Stage]:
    """A network at each encoder that was kept, and at its end; one module holds them in turn.

    Args:
        path: of the backbone.
        snapshots: of `backbones.join_snapshots`.
        label: whose score is the accuracy.
    """
    backbone = backbones.load(path)
    made: Any = backbone.provenance
    last = {key: value.clone() for key, value in backbone.encoder.state_dict().items()}
    for record, _ in backbones.snapshots(backbone, snapshots):
        yield Stage(record["images"], record["scores"].get(label), backbone, last=False)
    backbone.encoder.load_state_dict(last)
    pretraining = made.get("pretraining", {"n_train": 0, "training": {"epochs": 0}})
    seen = pretraining["n_train"] * pretraining["training"]["epochs"]
    yield Stage(seen, made.get("validation_r", {}).get(label), backbone, last=True)


def measure(stage: Stage, asked: Probes) -> pd.DataFrame:
    """All measures of a network at one moment.

    Args:
        stage: the network.
        asked: from :func:`probes`.

    Returns:
        Columns of `orientation_probes.COLUMNS` and `epoch` (images seen): the orientation
        measures; plain numbers (component `value`) `colour_contrast` (deg, bluish minus yellowish)
        and `accuracy`; and `colour_error` (deg), whose component is the colour.
    """
    found = orientation_probes.measure_on(stage.backbone, asked.lines)
    errors = orientation_probes.colour_errors(stage.backbone, asked.colours)
    contrast = orientation_probes.colour_contrast(errors, asked.bluish, asked.yellowish)
    plain = {"colour_contrast": contrast, "accuracy": stage.accuracy}
    rows = [{"measure": name, "component": "value", "value": x} for name, x in plain.items()]
    by_colour = errors.rename(columns={"colour": "component", "error_deg": "value"})
    parts = [found, pd.DataFrame(rows), by_colour.assign(measure="colour_error")]
    together = pd.concat(parts, ignore_index=True)
    return together.assign(epoch=stage.images)
