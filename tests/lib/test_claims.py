"""The decision rule: every combination of intervals and regions has its one verdict."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from patchwork import claims, tables
from patchwork.claims import Finding

DECISION = {
    "protocol": "described",
    "quantity": "place_of_minimum",
    "dataset": "angle",
    "backbone": "pretrained",
    "claimed": [170, 190],
    "survives": [170, 190],
    "unit": "deg",
    "control": {
        "protocol": "shifted_origin",
        "quantity": "place_of_minimum",
        "dataset": "angle",
        "backbone": "pretrained",
        "description": "the label's origin moved by 90 deg",
    },
    "positive_control": {
        "protocol": "described",
        "quantity": "minimum_found",
        "dataset": "angle",
        "backbone": "pretrained",
        "description": "a minimum of 5 deg at 180 deg",
    },
}


def claim(**changes):
    return {
        "study": "lines",
        "paper": "arXiv 2504.09393",
        "statement": "Angle error is lowest at 180 deg",
        "published": "180 deg",
        "decisions": [{**DECISION, **changes}],
    }


def finding(low, high, protocol="described", seeds=3, **more):
    """A row with the interval that decides; the one that is shown is wider."""
    row = {
        "study": "lines",
        "quantity": "place_of_minimum",
        "dataset": "angle",
        "backbone": "pretrained",
        "protocol": protocol,
        "estimate": (low + high) / 2,
        "ci_low": low - 4,
        "ci_high": high + 4,
        "ci90_low": low,
        "ci90_high": high,
        "n": 2400,
        "seeds": seeds,
    }
    return row | more


def power(share):
    ends = dict.fromkeys(tables.ENDS, share)
    return finding(share, share, quantity="minimum_found", estimate=share, seeds=0, n=100, **ends)


def decide(rows, **changes):
    """The one row of a claim, its decision changed; a key that is None is left out."""
    stated = claim(**changes)
    decision = stated["decisions"][0]
    for key in [key for key, value in changes.items() if value is None]:
        del decision[key]
    if not any(row["quantity"] == "minimum_found" for row in rows):
        rows = [*rows, power(0.95)]
    found = pd.DataFrame(rows, columns=["study", *tables.FINDINGS])
    table = claims.decide({"A1": stated}, found)
    assert list(table.columns) == list(tables.schema_of("claims.csv").columns)
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(
    ("estimate", "control", "expected"),
    [
        ((175, 185), (172, 188), "replicates"),
        ((170, 190), (170, 190), "replicates"),  # regions are closed
        ((175, 185), (265, 275), "artefact"),
        ((175, 185), (185, 275), "undetermined"),
        ((175, 195), (172, 188), "undetermined"),
        ((160, 200), (172, 188), "undetermined"),
        ((40, 50), (172, 188), "fails"),
        ((40, 50), (265, 275), "fails"),
        ((190.1, 200), (172, 188), "fails"),
    ],
)
def test_each_case_has_its_verdict(estimate, control, expected):
    row = decide([finding(*estimate), finding(*control, protocol="shifted_origin")])
    assert row["verdict"] == expected
    assert row["control_estimate"] == sum(control) / 2
    assert "\n" not in row["reason"]
    assert row["reason"].endswith(".")


def test_reason_carries_the_numbers():
    row = decide([finding(176, 184), finding(266, 274, "shifted_origin")])
    assert row["reason"] == (
        "The estimate 180 [90 %: 176, 184] deg lies in the claimed region, 170 to 190 deg, but the "
        "label's origin moved by 90 deg gives 270 [90 %: 266, 274] deg, where a right claim needs "
        "170 to 190 deg."
    )
    assert row["control"] == "the label's origin moved by 90 deg"
    assert (row["n"], row["seeds"]) == (2400, 3)
    assert row[list(tables.ENDS)].tolist() == [172, 188, 176, 184]


def test_what_is_not_there_is_not_decided():
    nothing = decide([])
    assert (nothing["verdict"], nothing["reason"]) == (
        "not_run",
        "This run did not compute the estimate.",
    )
    assert math.isnan(nothing["estimate"])
    assert nothing["n"] is pd.NA
    alone = decide([finding(176, 184)])
    assert alone["verdict"] == "undetermined"
    assert "not yet computed" in alone["reason"]
    # A failed claim needs no control.
    assert decide([finding(40, 50)])["verdict"] == "fails"
    naked = finding(176, 184) | dict.fromkeys(tables.ENDS, np.nan)
    assert "no interval" in decide([naked])["reason"]
    control = finding(176, 184, "shifted_origin") | {"ci90_low": np.nan}
    assert "no interval" in decide([finding(176, 184), control])["reason"]


def test_few_seeds_decide_nothing_not_even_failure():
    row = decide([finding(40, 50, seeds=2)], seeds_min=3)
    assert row["verdict"] == "undetermined"
    assert "2 of at least 3 seeds" in row["reason"]
    assert decide([finding(40, 50, seeds=3)], seeds_min=3)["verdict"] == "fails"


@pytest.mark.parametrize("control", [(172, 188), (265, 275)])
def test_a_control_of_few_seeds_decides_nothing_either(control):
    rows = [finding(175, 185, seeds=3), finding(*control, "shifted_origin", seeds=1)]
    row = decide(rows, seeds_min=3)
    assert row["verdict"] == "undetermined"
    assert row["control_estimate"] == sum(control) / 2
    assert re.search(
        r"origin moved by 90 deg, \d+ .* rests on 1 of at least 3 seeds\.$", row["reason"]
    )
    assert decide(rows)["verdict"] != "undetermined"  # without a limit, one will do
    # Where the estimate decides, the control does not matter.
    assert decide([finding(40, 50), rows[1]], seeds_min=3)["verdict"] == "fails"


@pytest.mark.parametrize("none", [0, np.nan])
def test_a_control_that_nothing_was_trained_for_needs_no_seeds(none):
    rows = [finding(175, 185, seeds=3), finding(265, 275, "shifted_origin", seeds=none)]
    assert decide(rows, seeds_min=3)["verdict"] == "artefact"


def test_open_bounds_and_no_control():
    row = decide([finding(5, 7)], claimed=[0, None], control=None, survives=None)
    assert row["verdict"] == "replicates"
    assert "at least 0 deg" in row["reason"]
    assert row["control"] == ""
    row = decide([finding(5, 7)], claimed=[None, 0], control=None, survives=None)
    assert row["verdict"] == "fails"
    assert "at most 0 deg" in row["reason"]


def test_null_in_an_address_does_not_restrict_but_must_fit_one_row():
    decision = {**DECISION, "dataset": None, "claimed": [0, 10]}
    del decision["control"], decision["survives"]
    stated = {"A1": {**claim(), "decisions": [decision]}}
    rows = [finding(5, 7, dataset="color")]
    assert claims.decide(stated, pd.DataFrame(rows))["verdict"].tolist() == ["replicates"]
    rows.append(finding(5, 7, dataset="width"))
    with pytest.raises(ValueError, match=r"A1\.decisions\[0\]: 2 rows of findings"):
        claims.decide(stated, pd.DataFrame(rows))


def test_other_studies_findings_do_not_count():
    assert decide([finding(176, 184, study="clap")])["verdict"] == "not_run"


def test_a_row_links_to_its_figure_only_where_a_run_has_drawn_it():
    def linked(row):
        found = pd.DataFrame([row], columns=["study", *tables.FINDINGS])
        return claims.decide({"A1": claim() | {"figure": "bias"}}, found)["figure"].item()

    assert linked(finding(176, 184)) == "lines/figures/bias.png"
    assert linked(finding(176, 184, study="clap")) == ""
    # The study ran, but not what this row asks for.
    assert linked(finding(176, 184, dataset="width")) == ""


numbers = st.floats(-1e3, 1e3)
regions = st.tuples(numbers, numbers).map(lambda x: (min(x), max(x)))


def test_a_claim_fails_only_where_a_planted_effect_would_have_been_found():
    away = finding(40, 50)
    row = decide([away, power(0.8)])
    assert (row["verdict"], row["power"]) == ("fails", 0.8)
    assert row["reason"].endswith(
        "lies outside the claimed region, 170 to 190 deg; a planted effect was found in 80 % of "
        "draws (a minimum of 5 deg at 180 deg)."
    )
    row = decide([away, power(0.3)])
    assert (row["verdict"], row["power"]) == ("undetermined", 0.3)
    assert row["reason"].endswith(
        ", but a planted effect was found in 30 % of draws (a minimum of 5 deg at 180 deg), where "
        "80 % are needed."
    )
    assert "power is not known" in decide([away, power(np.nan)])["reason"]
    row = decide([away], positive_control=None)
    assert row["verdict"] == "undetermined"
    assert "no planted effect" in row["reason"]
    assert math.isnan(row["power"])
    absent = {**DECISION["positive_control"], "quantity": "absent"}
    assert "power is not yet computed" in decide([away], positive_control=absent)["reason"]
    # What holds needs no power to have been found.
    for none in ([power(0.1)], []):
        rows = [finding(175, 185), finding(175, 185, "shifted_origin"), *none]
        assert decide(rows)["verdict"] == "replicates"


def test_an_effect_at_the_detectable_distance_is_decided_in_four_of_five_repetitions():
    rng = np.random.default_rng(1)
    error = 2.0
    half = 1.6449 * error
    row = decide([finding(10 - half, 10 + half)], claimed=[0, None])
    border, truth = 0.0, row["detectable"]
    decided = rng.normal(truth, error, 20_000) - half > border
    assert decided.mean() == pytest.approx(0.8, abs=0.01)


def test_the_expected_number_of_wrong_rows_counts_every_tested_row():
    table = pd.DataFrame({
        "verdict": ["replicates", "fails", "undetermined", "undetermined", "identity",
                    "not_applicable"],
        "estimate": [1.0, 1, 1, np.nan, np.nan, np.nan],
        "ci_low": [0.0, 0, 0, np.nan, np.nan, np.nan],
    })  # fmt: skip
    assert claims.multiplicity(table) == (
        "3 of 4 tested rows are decided, each at 5 %: at most 0.2 wrong ones are expected."
    )


@pytest.mark.parametrize("verdict", ["replicates", "fails"])
def test_a_row_on_the_border_is_decided_wrongly_in_a_twentieth_of_runs(verdict):
    rng = np.random.default_rng(0)
    decision = {"quantity": "q", "claimed": [0, None], "positive_control": {
        "quantity": "p", "description": "planted"}}  # fmt: skip
    known = Finding(1, 1, 1, 1, 1, n=100, seeds=0)
    wrong = 0
    for estimate in rng.normal(0, 1, 2000):
        found = Finding(estimate, -9, 9, estimate - 1.645, estimate + 1.645, n=9, seeds=3)
        made = {"q": found, "p": known}
        wrong += claims.verdict(decision, lambda a, made=made: made[a["quantity"]])[0] == verdict
    assert wrong / 2000 == pytest.approx(0.05, abs=0.015)


GATE = {
    "quantity": "accuracy", "dataset": "angle", "backbone": "pretrained",
    "protocol": "shifted_origin", "within": [0.5, None], "unit": "",
    "otherwise": "Its network does not know the task",
}  # fmt: skip


@pytest.mark.parametrize("control", [(172, 188), (265, 275)])
@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ((0.1, 0.3), "is not competent: Its network does not know the task: accuracy is 0.2 [90 %"),
        ((0.4, 0.6), "is not competent: accuracy is 0.5 [90 %: 0.4, 0.6], where"),
        (None, "is not competent: accuracy is not yet computed."),
    ],
)
def test_a_control_that_is_not_competent_decides_nothing(control, gate, words):
    rows = [finding(175, 185), finding(*control, "shifted_origin")]
    if gate:
        rows.append(finding(*gate, "shifted_origin", quantity="accuracy"))
    row = decide(rows, control={**DECISION["control"], "gate": GATE})
    assert row["verdict"] == "undetermined"
    assert f"the control (the label's origin moved by 90 deg) {words}" in row["reason"]
    rows[2:] = [finding(0.8, 0.9, "shifted_origin", quantity="accuracy")]
    gated = decide(rows, control={**DECISION["control"], "gate": GATE})
    assert gated["verdict"] == decide(rows)["verdict"] != "undetermined"


@given(regions, regions, regions, regions)
def test_rule_agrees_with_set_relations(estimate, claimed, control, survives):
    def where(interval, region):
        shared = max(interval[0], region[0]), min(interval[1], region[1])
        if shared[0] > shared[1]:
            return "outside"
        return "inside" if shared == interval else "across"

    expected = {"outside": "fails", "across": "undetermined"}.get(where(estimate, claimed))
    if expected is None:
        expected = {"outside": "artefact", "across": "undetermined", "inside": "replicates"}[
            where(control, survives)
        ]
    decision = {
        "quantity": "q", "claimed": claimed, "survives": survives,
        "control": {"quantity": "c", "description": "the control"},
        "positive_control": {"quantity": "p", "description": "planted"},
    }  # fmt: skip
    made = {
        name: Finding(sum(x) / 2, *x, *x, n=10, seeds=3)
        for name, x in (("q", estimate), ("c", control), ("p", (0.9, 0.9)))
    }
    found, reason = claims.verdict(decision, lambda address: made[address["quantity"]])
    assert found == expected
    assert len(re.findall(r"[.] [A-Z]", reason)) == 0


PREMISE = {
    "protocol": "described", "quantity": "accuracy", "dataset": "angle", "backbone": "pretrained",
    "within": [0.5, None], "otherwise": "The network does not know the task", "unit": "",
}  # fmt: skip


def accuracy(low, high, seeds=3):
    return finding(low, high, seeds=seeds, quantity="accuracy")


@pytest.mark.parametrize("estimate", [(175, 185), (40, 50), (160, 200), None])
@pytest.mark.parametrize(
    ("premise", "expected", "words"),
    [
        (
            accuracy(0.1, 0.3),
            "not_applicable",
            "The network does not know the task: accuracy is 0.2 [90 %: 0.1, 0.3], where the claim "
            "needs at least 0.5.",
        ),
        (accuracy(0.4, 0.6), "undetermined", "Whether the claim applies is open: accuracy is 0.5"),
        (accuracy(0.1, 0.3, seeds=2), "undetermined", "from 2 of at least 3 seeds."),
        (accuracy(np.nan, np.nan), "undetermined", "accuracy has no interval."),
        (None, "undetermined", "accuracy is not yet computed."),
    ],
)
def test_a_claim_without_its_premise_is_not_judged(estimate, premise, expected, words):
    rows = [finding(172, 188, protocol="shifted_origin")]
    rows += [finding(*estimate)] if estimate else []
    rows += [premise] if premise else []
    row = decide(rows, applies_if=[PREMISE], seeds_min=3)
    if estimate is None and expected == "undetermined":
        assert row["verdict"] == "not_run"
        return
    assert row["verdict"] == expected
    assert words in row["reason"]
    assert row["reason"].endswith(".")
    # The numbers are shown all the same.
    assert math.isnan(row["estimate"]) == (estimate is None)


def test_a_claim_whose_premises_hold_is_judged_as_if_there_were_none():
    for estimate in ((175, 185), (40, 50), (160, 200)):
        rows = [finding(*estimate), finding(172, 188, protocol="shifted_origin")]
        plain = decide(rows)
        rows += [accuracy(0.8, 0.9), finding(3, 4, quantity="depth")]
        premises = [PREMISE, {**PREMISE, "quantity": "depth", "within": [None, 4]}]
        assert decide(rows, applies_if=premises).equals(plain)
        # One that fails is enough.
        premises[1]["within"] = [5, None]
        assert decide(rows, applies_if=premises)["verdict"] == "not_applicable"


def test_an_identity_needs_no_findings():
    stated = claim()
    stated["decisions"].insert(0, {
        "kind": "identity", "protocol": "released", "reason": "It cannot but hold.",
        "proved_by": "tests/lib/test_claims.py::test_an_identity_needs_no_findings",
    })  # fmt: skip
    rows = [finding(175, 185), finding(175, 185, protocol="released")]
    one, other = claims.decide({"A1": stated}, pd.DataFrame(rows)).to_dict("records")
    assert (one["verdict"], one["protocol"], one["control"]) == ("identity", "released", "")
    assert one["reason"].startswith("It cannot but hold. Proved by tests/lib/test_claims.py::")
    assert math.isnan(one["estimate"])
    assert pd.isna(one["seeds"])
    assert other["verdict"] == "undetermined"


def test_an_amendment_marks_the_rows_that_it_changed():
    stated = claim()
    stated["decisions"].append({**DECISION, "protocol": "released"})
    amendments = [
        {"date": "2026-01-02", "claims": ["A1"], "protocols": ["released"], "seeds_seen": [0, 1]},
        {"date": "2026-01-01", "claims": ["A1", "B1"], "protocols": ["released"], "seeds_seen": []},
        {"date": "2026-01-03", "claims": ["B1"], "seeds_seen": [0]},
    ]

    def rules(seeds):
        findings = pd.DataFrame([finding(175, 185)])
        return claims.decide({"A1": stated}, findings, amendments, {"lines": seeds})[
            "rule"
        ].tolist()

    seen = "amended 2026-01-02; exploratory, for results of these seeds had been seen"
    assert rules([1, 2]) == ["as first stated", seen]
    assert rules([2, 3]) == ["as first stated", "amended 2026-01-02"]
    # A proof holds whatever had been seen.
    stated["decisions"][1] = {
        "kind": "identity", "protocol": "released", "reason": "It holds.", "proved_by": "a test",
    }  # fmt: skip
    assert rules([1, 2])[1] == "amended 2026-01-02"
    assert claims.decide({"A1": stated}, pd.DataFrame([finding(1, 2)]))["rule"].nunique() == 1


CONFIG = Path(__file__).resolve().parents[2] / "config"
STATED = yaml.safe_load((CONFIG / "claims.yaml").read_text())["claims"]


def test_every_figure_that_a_claim_names_is_drawn():
    scales = [yaml.safe_load(path.read_text()) for path in (CONFIG / "scales").glob("*.yaml")]
    for name, one in STATED.items():
        study = yaml.safe_load((CONFIG / f"studies/{one['study']}.yaml").read_text())
        block = study["studies"][one["study"]]
        drawn = [*block.get("figures", {}), *block.get("networks", {}).get("figures", ())]
        for scale in scales:
            drawn += (scale.get("studies", {}).get(one["study"]) or {}).get("figures", {})
        assert one.get("figure", drawn[0]) in [*drawn, "samples", "rearing_conditions"], name


# Claims with rows that still have no positive control, so these cannot fail; it must only shrink.
WITHOUT_POWER = {"B1", "B4", "B7"}


def test_every_decision_has_a_positive_control():
    lacking = {
        name
        for name, one in STATED.items()
        for row in one["decisions"]
        if "kind" not in row and "positive_control" not in row
    }
    assert lacking <= WITHOUT_POWER


def test_every_identity_names_a_test_that_exists():
    named = [
        row["proved_by"].split("::")
        for one in STATED.values()
        for row in one["decisions"]
        if "kind" in row
    ]
    assert named
    for file, name in named:
        assert f"\ndef {name}(" in (CONFIG.parent / file).read_text(), name


def test_amendments_are_in_order_and_name_claims_that_there_are():
    amendments = yaml.safe_load((CONFIG / "amendments.yaml").read_text())["amendments"]
    assert [one["date"] for one in amendments] == sorted(one["date"] for one in amendments)
    for one in amendments:
        assert set(one["claims"]) <= set(STATED)
        for name in one["claims"]:
            protocols = {row["protocol"] for row in STATED[name]["decisions"]}
            assert set(one.get("protocols", ())) <= protocols, name
