"""Measure the orientation and colour bias of one arm's networks, frozen, along their rearing."""

import pandas as pd
import torch
from patchwork import backbones, devices
from patchwork.analysis import orientation_probes as probes
from patchwork.joblog import Progress, job_log


def main(
    *,
    reared: list[str],
    snapshots: list[str],
    seeds: list[int],
    image_px: int,
    settings: dict,
    measures: str,
    device: str,
) -> None:
    drawn = settings["probes"]
    sizes = probes.ProbeSizes(**drawn["sizes"])
    common = {"image_px": image_px, "seed": drawn["seed"]}
    lines = probes.probe_images(**common, sizes=sizes)
    colours = probes.colour_images(**common, **drawn["colours"])
    progress, parts = Progress("networks", len(reared)), []
    for done, (path, kept, seed) in enumerate(zip(reared, snapshots, seeds, strict=True), 1):
        for images_seen, accuracy, network in stages(path, kept, settings["accuracy"], device):
            found = probes.measure_on(network, lines)
            errors = probes.colour_errors(network, colours)
            contrast = probes.colour_contrast(errors, settings["bluish"], settings["yellowish"])
            plain = {"colour_contrast": contrast, "accuracy": accuracy}
            rows = [{"measure": name, "component": "value", "value": x} for name, x in plain.items()]
            colour_rows = errors.rename(columns={"colour": "component", "error_deg": "value"})
            found = pd.concat(
                [found, pd.DataFrame(rows), colour_rows.assign(measure="colour_error")],
                ignore_index=True,
            )
            parts.append(found.assign(seed=seed, epoch=images_seen))
        progress.step(done)
    pd.concat(parts, ignore_index=True).to_csv(measures, index=False)


def stages(path: str, kept: str, label: str, device: str):
    """Images seen, accuracy and network: every snapshot, then the end; untrained ones at 0."""
    backbone = backbones.load(path)
    made = backbone.provenance
    last = {key: value.clone() for key, value in backbone.encoder.state_dict().items()}
    place = torch.device(device)
    for record, _ in backbones.snapshots(backbone, kept):
        backbone.encoder.eval().to(place)
        yield record["images"], record["scores"].get(label), backbone
        backbone.encoder.to("cpu")
    backbone.encoder.load_state_dict(last)
    backbone.encoder.eval().to(place)
    rearing = made.get("rearing", {"n_train": 0})
    yield rearing["n_train"], made.get("validation_r", {}).get(label), backbone


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            reared=list(snakemake.input.reared),
            snapshots=list(snakemake.input.snapshots),
            seeds=snakemake.params.seeds,
            image_px=snakemake.params.image_px,
            settings=snakemake.params.settings,
            measures=snakemake.output.measures,
            device=device,
        )
