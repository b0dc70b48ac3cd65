"""The script that writes data cards, without Snakemake."""

import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

import describe_dataset  # noqa: E402
import synthesise_shard  # noqa: E402

SETTINGS = {"image_px": 32, "signal": "waveform", "snr_db": {"min": 0, "max": 5}}


def test_a_card_lies_beside_the_images(tmp_path):
    splits = {}
    for split, first in (("train", 0), ("validation", 100), ("test", 200)):
        splits[split] = str(tmp_path / f"{split}.h5")
        images = {
            "kind": "chirps", "seed": 1, "settings": SETTINGS, "first_index": first, "n": 8,
        }  # fmt: skip
        synthesise_shard.main(images=images, part=(1, 1), shard=splits[split], code="c0de")
    named = {"dataset": "measured", "licence": "MIT", "reference": "A paper."}
    describe_dataset.main(splits=splits, named=named, card=str(tmp_path / "README.md"))
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Dataset `measured`: 24 labelled images\n")
    assert "| `snr_db` | validation |" in text
    assert "Licence: MIT." in text
    assert text.endswith("A paper.\n")
