import copy
from pathlib import Path

import jsonschema
import pytest
import yaml
from patchwork.networks import data
from patchwork.networks.graph_attention import AttentionTraining

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((ROOT / "workflow/schemas/networks.schema.yaml").read_text())
BLOCKS = {
    name: study["networks"]
    for path in sorted((ROOT / "config/studies").glob("*.yaml"))
    for name, study in yaml.safe_load(path.read_text())["studies"].items()
    if "networks" in study
}


@pytest.mark.parametrize("name", list(BLOCKS))
def test_configured_networks_are_valid_and_accepted_by_the_library(name):
    block = BLOCKS[name]
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(block, SCHEMA)
    assert block["drawn"] in block["datasets"]
    sizes = dict(block["training"], n_conditions=tuple(block["training"]["n_conditions"]))
    AttentionTraining(**sizes)
    for dataset in block["datasets"].values():
        if dataset["source"]["kind"] == "random":
            assert len(data.load(**{**dataset["source"], "n_networks": 1})) == 1


def test_kinds_of_schema_and_library_agree():
    options = SCHEMA["$defs"]["dataset"]["properties"]["source"]["oneOf"]
    assert {option["properties"]["kind"]["const"] for option in options} == set(data.KINDS)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("analysis", "walk_retrun"), 1),
        (("analysis", "walk_return"), 0),
        (("training", "n_conditions"), [1, 2]),
        (("datasets", "Upper case"), {}),
        (("drawn",), 3),
    ],
)
def test_typos_and_impossible_values_are_refused(place, value):
    block = copy.deepcopy(next(iter(BLOCKS.values())))
    inner = block
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(block, SCHEMA)
