from pathlib import Path

import jsonschema
import pytest
import yaml
from patchwork import stimuli
from patchwork.figures import registry
from patchwork.figures.networks import report
from patchwork.jobs import configuration, settings
from patchwork.models import backbones, fine_tuned, packages, tasks
from patchwork.stimuli import chirps, lines, objects, views
from patchwork.stimuli.common import palettes
from patchwork.training import trainer

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = {
    path.name: yaml.safe_load(path.read_text())
    for path in (ROOT / "workflow/schemas").glob("*.yaml")
}
STUDY = SCHEMAS["study.schema.yaml"]["$defs"]
REARING = SCHEMAS["rearing.schema.yaml"]["$defs"]


def whole_configuration() -> dict:
    whole = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for name in ("claims", "amendments", "preregistration"):
        whole |= yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
    whole["studies"] = {}
    for path in (ROOT / "config/studies").glob("*.yaml"):
        whole["studies"] |= yaml.safe_load(path.read_text())["studies"]
    return whole


def complaint(change) -> str:
    whole = whole_configuration()
    change(whole)
    with pytest.raises(ValueError, match=r".+") as caught:
        configuration.check(whole, SCHEMAS)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_schema_is_valid_and_the_configuration_passes():
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    configuration.check(whole_configuration(), SCHEMAS)


def closed(node):
    """Every object of a schema that lists properties."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield node
        for value in node.values():
            yield from closed(value)
    elif isinstance(node, list):
        for value in node:
            yield from closed(value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_object_takes_unknown_keys(name):
    for node in closed(SCHEMAS[name]):
        assert node["additionalProperties"] is False, node


def test_an_unknown_key_is_named_with_its_file():
    text = complaint(lambda c: c["studies"]["lines"]["training"].update(epoch=3))
    assert text.startswith("config/studies/lines.yaml: training has the unknown key 'epoch'")
    assert "epochs" in text


def test_a_wrong_type_is_named_with_what_is_allowed():
    text = complaint(lambda c: c["studies"]["lines"]["training"].update(epochs="many"))
    assert text == (
        "config/studies/lines.yaml: training.epochs is 'many'; allowed is integer: "
        "Passes over the training images, 1 or more"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda claim, row: row.update(claimed=[22.5, 0]),
            "decisions[0].claimed is [22.5, 0]; allowed is the lower bound first",
        ),
        (
            lambda claim, row: row.update(claimed=180),
            "decisions[0].claimed is 180; allowed is array: Lower and upper bound, the lower first",
        ),
        (
            lambda claim, row: row.update(claimed=[0]),
            "decisions[0].claimed is [0]; allowed is at least 2 entries",
        ),
        (
            lambda claim, row: row.update(claimed=["0", 1]),
            "decisions[0].claimed[0] is '0'; allowed is number or null: A number, or null for no",
        ),
        (
            lambda claim, row: row.update(survive=[0, 1]),
            "decisions[0] has the unknown key 'survive'; allowed is quantity, dataset, backbone",
        ),
        (
            lambda claim, row: row.pop("claimed"),
            "decisions[0] lacks 'claimed'; needed are quan",
        ),
        (lambda claim, row: row.pop("survives"), "decisions[0] lacks 'survives', which goes with"),
        (lambda claim, row: row.pop("control"), "decisions[0] lacks 'control', which goes with"),
        (
            lambda claim, row: row.update(survives=None),
            "decisions[0].survives is None; allowed is array",
        ),
        (
            lambda claim, row: row.update(control={"protocol": "x"}),
            "decisions[0].control lacks 'quantity'; needed are quantity, dataset",
        ),
        (
            lambda claim, row: row["control"].update(gate={"quantity": "accuracy"}),
            "decisions[0].control.gate lacks 'dataset'; needed are quantity, dataset, backbone",
        ),
        (
            lambda claim, row: row.update(positive_control={"quantity": "share"}),
            "decisions[0].positive_control lacks 'dataset'; needed are quantity, dataset",
        ),
        (
            lambda claim, row: row.update(kind="identity"),
            "decisions[0] has the unknown key 'quantity'; allowed is kind, protocol, reason",
        ),
        (
            lambda claim, row: row.update(applies_if=[{"quantity": "accuracy"}]),
            "decisions[0].applies_if[0] lacks 'dataset'; needed are quantity, dataset, backbone",
        ),
        (lambda claim, row: claim.pop("paper"), "lacks 'paper'; needed are study, paper, statem"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(change, words):
    text = complaint(lambda c: change(c["claims"]["A1"], c["claims"]["A1"]["decisions"][0]))
    assert text.startswith("config/claims.yaml: A1"), text
    assert words in text


def test_an_amendment_that_says_too_little_is_refused():
    text = complaint(lambda c: c["amendments"][0].pop("reason"))
    assert text.startswith("config/amendments.yaml: amendments[0] lacks 'reason'; needed are date")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("overlap_s", 60, "less than 60"),
        ("threshold", 1.5, "at most 1"),
        ("merge_s", -1, "at least 0"),
    ],
)
def test_an_impossible_search_of_recordings_is_refused(key, value, allowed):
    text = complaint(lambda c: c["studies"]["chirps"]["recordings"].update({key: value}))
    assert text.startswith(f"config/studies/chirps.yaml: recordings.{key} is {value}; allowed is")
    assert text.endswith(allowed)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value):
    text = complaint(lambda c: c["studies"]["lines"]["training"].update(learning_rate=value))
    assert text.startswith(
        f"config/studies/lines.yaml: training.learning_rate is {value}; allowed is finite number"
    )


def test_the_file_that_holds_a_value_is_named():
    own = [
        ("config/config.yaml", {"run": ["lines"], "seeds": [0]}),
        ("config/studies/lines.yaml", {"studies": {"lines": {"training": {"epochs": 2}}}}),
    ]
    user = [
        ("quick.yaml", {"studies": {"lines": {"training": {"epochs": 1, "epoch": 3}}}}),
        ("--config", {"seeds": [-1], "studies": {"mine": {"training": {}}}}),
    ]
    training = ["studies", "lines", "training"]

    def named(keys, text="is wrong", **how):
        return configuration.ConfigurationError(keys, text, **how).located([*own, *user])

    assert named(["run"]) == "config/config.yaml: run is wrong"
    assert named(["seeds", 0]) == "--config: seeds[0] is wrong"
    assert named([*training, "epochs"]) == "quick.yaml: studies.lines.training.epochs is wrong"
    # What is missing is missing where the block is defined.
    lacks = named(training, "lacks 'schedule'", defined=True)
    assert lacks == "config/studies/lines.yaml: training lacks 'schedule'"
    mine = named(["studies", "mine", "training"], "lacks 'epochs'", defined=True)
    assert mine == "--config: studies.mine.training lacks 'epochs'"
    odd = named(training, "has the unknown key 'epoch'", held=[*training, "epoch"])
    assert odd == "quick.yaml: studies.lines.training has the unknown key 'epoch'"
    # Nobody holds it: the file of the project where it belongs.
    assert named(["claims", "A1", "paper"]) == "config/claims.yaml: A1.paper is wrong"
    assert named([]) == "configuration is wrong"


def test_no_samples_are_refused():
    text = complaint(lambda c: c["studies"]["lines"]["stimuli"]["splits"]["train"].update(n=0))
    assert "stimuli.splits.train.n is 0; allowed is at least 8" in text


def test_a_missing_key_is_named():
    text = complaint(lambda c: c["studies"]["lines"]["stimuli"].pop("seed"))
    assert "config/studies/lines.yaml: stimuli lacks 'seed'" in text


def test_a_source_needs_its_own_keys():
    def hub(c):
        c["studies"]["lines"]["backbones"]["random"]["source"] = "hub"

    assert "lacks 'repository'" in complaint(hub)


def test_names_that_are_not_defined_are_refused():
    study = whole_configuration()["studies"]["lines"]
    study["runs"][0]["protocols"].append("imagined")
    with pytest.raises(ValueError, match=r"runs\[0\].protocols has .imagined.; allowed"):
        configuration.check_study("lines", study)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_px": 60}, "common.image_px is 60; allowed is a multiple of 8"),
        ({"length_px": {"min": 14, "max": 400}},
         "length_px.max is 400; allowed is at most 31 for a 64 px image"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_drawn_are_refused(change, words):
    text = complaint(lambda c: c["studies"]["lines"]["stimuli"]["common"].update(change))
    assert text.startswith("config/studies/lines.yaml: ")
    assert words in text


def test_a_study_that_does_not_exist_is_named():
    text = complaint(lambda c: c["run"].append("dreams"))
    assert text.startswith("config/config.yaml: run has 'dreams'; allowed is ")


def test_splits_are_disjoint():
    for name, study in whole_configuration()["studies"].items():
        if "stimuli" in study:
            ranges = sorted(
                (s["first_index"], s["first_index"] + s["n"])
                for s in study["stimuli"]["splits"].values()
            )
            ends = [stop for _, stop in ranges]
            starts = [start for start, _ in ranges]
            assert all(e <= s for e, s in zip(ends, starts[1:], strict=False)), name


def test_runs_are_crossed_once():
    row = {"datasets": ["a", "b"], "backbones": ["c"], "protocols": ["d"]}
    runs = settings.runs({"runs": [row, row], "seeds": [0, 1]})
    assert len(runs) == 4
    assert runs[0] == {"dataset": "a", "backbone": "c", "protocol": "d", "seed": 0}


def test_a_part_of_the_analyses_takes_the_conditions_that_it_lists():
    study = whole_configuration()["studies"]["lines"]
    found = settings.conditions(study, "colour")
    assert (
        {row["dataset"] for row in found} == {"color", "hue"} == set(settings.drawn_colours(study))
    )
    assert {row["backbone"] for row in found} == {"pretrained"}


def enum(*keys: str) -> set:
    node = STUDY
    for key in keys:
        node = node[key]
    return set(node["enum"])


def test_enums_of_the_schema_are_the_registries_of_the_library():
    generator = STUDY["generator"]["properties"]
    target = STUDY["targets"]["additionalProperties"]["properties"]
    rearing = REARING["procedural"]["properties"]
    schedule = STUDY["training"]["properties"]["schedule"]["properties"]
    pairs = [
        (STUDY["stimuli"]["properties"]["kind"], stimuli.GENERATORS),
        (generator["palette"], palettes.PALETTES),
        (generator["margin"], lines.MARGINS),
        (generator["rasteriser"], lines.RASTERISERS),
        (rearing["orientation_statistics"], objects.ORIENTATION_STATISTICS),
        (rearing["colour_statistics"], objects.COLOUR_STATISTICS),
        (REARING["views"]["properties"]["colour"], views.COLOURS),
        (generator["signal"], chirps.SIGNALS),
        (generator["sweeps"]["items"], chirps.SWEEPS),
        (STUDY["backbone"]["properties"]["source"], backbones.SOURCES),
        (
            STUDY["backbone"]["properties"]["package"]["properties"]["converter"],
            packages.CONVERTERS,
        ),
        (STUDY["protocol"]["properties"]["readout"], fine_tuned.READOUTS),
        (STUDY["protocol"]["properties"]["adapter"]["properties"]["kind"], fine_tuned.ADAPTERS),
        (target["encoding"], tasks.ENCODINGS),
        (target["activation"], tasks.ACTIVATIONS),
        (target["loss"], tasks.LOSSES),
        (schedule["kind"], trainer.SCHEDULES),
        (SCHEMAS["networks.schema.yaml"]["properties"]["figures"]["items"], report.FIGURES),
    ]
    for node, known in pairs:
        assert set(node["enum"]) == set(known)


def test_configured_figures_can_be_drawn():
    for study in whole_configuration()["studies"].values():
        for figure in study.get("figures", {}).values():
            assert figure["draw"] in registry.DRAWINGS


def test_trainings_of_a_few_steps_are_refused():
    study = whole_configuration()["studies"]["lines"]
    study["training"]["batch_size"] = 400
    with pytest.raises(
        ValueError, match=r"gives -\d+ steps after warm-up on angle under described"
    ):
        configuration.check_study("lines", study)


def test_a_condition_that_nothing_trains_is_not_timed():
    study = whole_configuration()["studies"]["chirps"]
    configuration.check_study("chirps", study)
    study["analyses"]["timing"]["condition"]["protocol"] = "imagined"
    with pytest.raises(
        ValueError, match="is ridge/pretrained/imagined; allowed is one that the runs"
    ):
        configuration.check_study("chirps", study)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": "seizure"}, "'seizure'; allowed is seizures"),
        ({"pictures": "ridge"}, "'ridge'; allowed is seizures"),
        ({"datasets": ["ridge", "wave"]}, "'wave'; allowed is ridge, ridge_2000"),
        ({"protocols": ["full"]}, "'full'; allowed is corrected, described"),
        ({"datasets": ["ridge_2000"], "protocols": ["described"]}, "names no network"),
    ],
)
def test_networks_that_are_tried_on_pictures_are_trained_and_the_pictures_are_there(
    changes, message
):
    study = whole_configuration()["studies"]["chirps"]
    study["analyses"]["transfer"] = {"pictures": "seizures", "datasets": ["ridge"]}
    configuration.check_study("chirps", study)
    study["analyses"]["transfer"] |= changes
    with pytest.raises(ValueError, match=message):
        configuration.check_study("chirps", study)


@pytest.mark.parametrize(
    ("block", "differs"),
    [
        ({"source": "random"}, True),
        ({"source": "pretrained"}, True),
        ({"source": "package"}, False),
        ({"source": "local", "shuffled": False}, False),
        ({"source": "package", "shuffled": True}, True),
    ],
)
def test_weights_made_elsewhere_are_the_same_for_every_seed_unless_shuffled(block, differs):
    assert settings.differs_by_seed(block) is differs


def test_a_scale_leaves_out_a_block_or_a_figure_by_null():
    study = {"interventions": None, "figures": {"one": None, "two": {}}, "backbones": {"a": None}}
    given = {"studies": {"lines": study, "mine": {"figures": None}}, "odd": None}
    settings.leave_out(given)
    left = {"figures": {"two": {}}, "backbones": {"a": None}}
    assert given == {"studies": {"lines": left, "mine": {}}, "odd": None}


def test_a_planted_effect_of_no_claim_is_named():
    text = complaint(lambda c: c["studies"]["clap"]["planted"].update(first_mlp_recoveri=56))
    assert text.startswith(
        "config/studies/clap.yaml: planted.first_mlp_recoveri is the estimate of no claim; allowed "
    )
    assert "first_mlp_recovery, " in text
