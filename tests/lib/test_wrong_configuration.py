"""Wrong values as a new user writes them: one line with file, key, value and what is allowed."""

import math
from pathlib import Path

import pytest
import yaml
from configuration_files import ROOT, Configuration

CONFIG, LINES = "config/config.yaml", "config/studies/lines.yaml"
TRAINING = ("studies", "lines", "training")
CASES = [
    (LINES, (*TRAINING, "learning_rate"), math.nan,
     "lines.yaml: training.learning_rate is nan; allowed is finite number"),
    (LINES, (*TRAINING, "learning_rate"), math.inf,
     "lines.yaml: training.learning_rate is inf; allowed is finite number"),
    (LINES, (*TRAINING, "learning_rate"), -0.003,
     "lines.yaml: training.learning_rate is -0.003; allowed is more than 0"),
    # As text: YAML wants 3.0e-3.
    (LINES, (*TRAINING, "learning_rate"), "3e-3",
     "lines.yaml: training.learning_rate is '3e-3'; allowed is number"),
    (LINES, (*TRAINING, "batchsize"), 8,
     "lines.yaml: training has the unknown key 'batchsize'; allowed is"),
    (LINES, (*TRAINING, "batch_size"), 0,
     "lines.yaml: training.batch_size is 0; allowed is at least 1"),
    (LINES, (*TRAINING, "batch_size"), None,
     "lines.yaml: training.batch_size is None; allowed is integer"),
    (LINES, (*TRAINING, "epochs"), 2.5, "lines.yaml: training.epochs is 2.5; allowed is integer"),
    (LINES, (*TRAINING, "schedule", "kind"), "linear",
     "lines.yaml: training.schedule.kind is 'linear'; allowed is"),
    (LINES, ("studies", "lines", "stimuli", "common", "image_px"), 63,
     "lines.yaml: stimuli.common.image_px is 63; allowed is a multiple of 8"),
    (LINES, ("studies", "lines", "rums"), [], "lines.yaml has the unknown key 'rums'; allowed is"),
    (CONFIG, ("seeds",), [], "config.yaml: seeds is []; allowed is at least 1 entries"),
    (CONFIG, ("seeds",), [0, 0], "config.yaml: seeds is [0, 0]; allowed is no entry"),
    (CONFIG, ("seeds",), [-1], "config.yaml: seeds[0] is -1; allowed is at least 0"),
    (CONFIG, ("seeds",), 3, "config.yaml: seeds is 3; allowed is array"),
    (CONFIG, ("seed",), [0], "has the unknown key 'seed'; allowed is"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "keys", "value", "line"), CASES)
def test_one_line_says_what_is_wrong(tmp_path, file, keys, value, line):
    document = yaml.safe_load((ROOT / file).read_text())
    block = document
    for key in keys[:-1]:
        block = block[key]
    block[keys[-1]] = value
    changed = tmp_path / Path(file).name
    changed.write_text(yaml.safe_dump(document))
    run = [Path(file).stem] if "studies" in file else ["stability"]
    with pytest.raises(ValueError, match=r".") as caught:
        Configuration(changed, file, run).check()
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
