"""Find chirps in a recording with one fine-tuned network: table, annotations, overlays."""

from dataclasses import fields
from pathlib import Path

import torch
from patchwork import tables
from patchwork.figures.chirps import recording_page
from patchwork.figures.chirps import recordings as figures
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import fine_tuned
from patchwork.recordings import annotations, detection, excerpts, readers
from patchwork.stimuli.spectrograms import DURATION_S, FREQUENCY_MAX_HZ


def main(
    *, recording: str, network: tuple[str, str], calibration: str, settings: dict, outputs: dict,
    device: str,
) -> None:  # fmt: skip
    """Network is the files of model and backbone; calibration, what it predicted of test images."""
    found = readers.open_recording(
        recording, **{key: settings[key] for key in ("picks", "exclude", "units")}
    )
    keys = [field.name for field in fields(detection.Search)]
    search = detection.Search(**{key: settings[key] for key in keys})
    predict = detection.predictor(fine_tuned.load(*network).to(torch.device(device)))
    widths = detection.half_widths(tables.read(calibration), settings["seed"], settings["coverage"])
    readers.check_signal(found, DURATION_S)
    result = detection.localise(found, predict, search, widths)
    bids = annotations.as_bids(result.events, found.clock, found.duration_s)
    for kind, frame in (("events", result.events), ("channels", result.channels), ("bids", bids)):
        tables.write(frame.round(6), outputs[kind])
    for kind in ("fif", "csv", "edf"):
        annotations.save(result.events, found.clock, outputs[kind])
    searched = figures.SearchedRecording(
        Path(recording).name, found.duration_s, FREQUENCY_MAX_HZ, search.threshold,
        settings["coverage"],
    )  # fmt: skip
    links = figures.save_overlays(result.overview, result.events, searched, outputs["overlays"])
    links += [Path(outputs[kind]).name for kind in ("events", "channels", "bids", "csv", "edf")]
    around = excerpts.excerpts(found, result.events, search.mains_hz)
    page = recording_page.page(searched, result.events, result.channels, dict(around), links)
    Path(outputs["page"]).write_text(page, encoding="utf-8")


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
