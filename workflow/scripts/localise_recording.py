"""Find chirps in a recording with one fine-tuned network: table, annotations, overlays."""

from dataclasses import fields
from pathlib import Path

import pandas as pd
import torch
from patchwork import tables
from patchwork.figures import theme
from patchwork.figures.chirps import recordings as figures
from patchwork.jobs import devices
from patchwork.jobs.log import Progress, job_log
from patchwork.models import fine_tuned
from patchwork.recordings import annotations, detection, readers
from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ


def main(
    *, recording: str, network: tuple[str, str], calibration: str, settings: dict, outputs: dict,
    device: str,
) -> None:  # fmt: skip
    """Network is the files of model and backbone; calibration, what it predicted of test images."""
    found = readers.open_recording(
        recording, **{key: settings[key] for key in ("picks", "exclude", "units")}
    )
    search = detection.Search(
        **{field.name: settings[field.name] for field in fields(detection.Search)}
    )
    predict = detection.predictor(fine_tuned.load(*network).to(torch.device(device)))
    predicted = pd.read_parquet(calibration)
    widths = detection.half_widths(predicted, settings["seed"], settings["coverage"])
    readers.check_signal(found, DURATION_S)
    result = detection.localise(found, predict, search, widths)
    tables.write(result.events.round(6), outputs["events"])
    tables.write(result.channels.round(6), outputs["channels"])
    for kind in ("fif", "csv", "edf"):
        annotations.save(result.events, found.clock, outputs[kind])
    searched = figures.SearchedRecording(
        Path(recording).name, found.duration_s, FREQUENCY_MAX_HZ, search.threshold,
        settings["coverage"],
    )  # fmt: skip
    draw(result, searched, Path(outputs["overlays"]))


def draw(result: detection.Detections, searched: figures.SearchedRecording, folder: Path) -> None:
    """A figure per channel, as SVG, PNG and the table that it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    levels = result.overview.levels
    progress = Progress("overlays", len(levels))
    for i, (stem, figure, shown) in enumerate(figures.overlays(levels, result.events, searched)):
        theme.save(figure, folder / stem)
        shown.to_csv(folder / f"{stem}.csv", index=False)
        progress.step(i + 1)


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            recording=snakemake.input.recording,
            network=(snakemake.input.model, snakemake.input.backbone),
            calibration=snakemake.input.calibration,
            settings=snakemake.params.settings,
            outputs=dict(snakemake.output.items()),
            device=device,
        )
