"""Attention of one fine-tuned model, and of its backbone before, on regions of the pictures."""

import torch
from patchwork import tables
from patchwork.analysis.selectivity import region_attention
from patchwork.data import store
from patchwork.jobs import devices
from patchwork.jobs.log import job_log
from patchwork.models import backbones, fine_tuned
from patchwork.stimuli.chirp_figure.names import REGIONS

N_SHOWN = 4  # pictures whose maps are drawn


def main(
    *, test: str, backbone: str, model: str, outputs: dict, settings: dict, device: str
) -> None:
    network = fine_tuned.load(model, backbone).to(torch.device(device))
    untouched = backbones.load(backbone).encoder.to(torch.device(device)).eval()
    batch = store.read(test, settings["n_images"])
    images = torch.from_numpy(batch.images)
    with torch.no_grad():
        pixels = network.pixels(images.to(device))
    per_image, per_head = region_attention.attention_by_state(
        {"tuned": (network, images), "untouched": (untouched, pixels)},
        batch.extras["regions"],
        REGIONS,
        settings.get("merged"),
    )
    tables.write(per_image, outputs["scores"])
    tables.write(per_head, outputs["heads"])
    drawn, picture = region_attention.overlay(
        region_attention.attend(network, images[:N_SHOWN]), batch.images[:N_SHOWN]
    )
    tables.write(drawn, outputs["overlay"])
    tables.write(picture, outputs["picture"])


if __name__ == "__main__":
    with job_log(snakemake.log[0]), devices.lease(snakemake.resources.gpu) as device:
        torch.set_num_threads(snakemake.threads)
        main(
            **snakemake.input,
            outputs=dict(snakemake.output.items()),
            settings={key: snakemake.params[key] for key in ("n_images", "merged")},
            device=device,
        )
