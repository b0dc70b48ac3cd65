"""Tables have the columns that are declared, once, and printed into the docs."""

import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from patchwork import tables

ROOT = Path(__file__).resolve().parents[2]
METRIC = (
    "dataset backbone protocol target metric unit estimate ci_low ci_high ci90_low ci90_high n "
    "seeds constant"
)


def metric_rows(n: int = 1) -> pd.DataFrame:
    return pd.DataFrame([range(14)] * n, columns=METRIC.split())


def test_a_table_is_written_in_the_declared_order(tmp_path):
    path = tmp_path / "tables/metrics.csv"
    path.parent.mkdir()
    tables.write(metric_rows(2)[METRIC.split()[::-1]], path)
    assert (
        path.read_text()
        == METRIC.replace(" ", ",") + 2 * "\n0,1,2,3,4,5,6,7,8,9,10,11,12,13" + "\n"
    )


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (metric_rows().drop(columns="unit"), "lacks the column 'unit'; needed are dataset, back"),
        (metric_rows().assign(units=""), "has the unknown column 'units'; allowed are dataset, b"),
    ],
)
def test_other_columns_are_refused_and_nothing_is_written(tmp_path, frame, words):
    path = tmp_path / "tables/metrics.csv"
    path.parent.mkdir()
    with pytest.raises(ValueError, match=re.escape(f"{path}: {words}")) as error:
        tables.write(frame, path)
    assert "\n" not in str(error.value)
    assert not path.exists()


def test_optional_columns_may_be_missing_and_others_stay_where_they_are(tmp_path):
    event = dict.fromkeys(tables.schema_of("recordings/night/events.csv").columns, 0)
    path = tmp_path / "recordings/night/events.csv"
    path.parent.mkdir(parents=True)
    tables.write(pd.DataFrame([event]).drop(columns="duration_s"), path)
    assert list(pd.read_csv(path)) == [name for name in event if name != "duration_s"]
    path = tmp_path / "predictions.parquet"
    frame = pd.DataFrame({"index": [0], "angle_deg": [1.0], "loss_angle": [0.1], "seed": [3]})
    tables.write(frame, path)
    assert pd.read_parquet(path).equals(frame)
    with pytest.raises(ValueError, match="lacks the column 'seed'"):
        tables.write(frame.drop(columns="seed"), path)


def test_a_table_without_rows_has_its_columns(tmp_path):
    path = tmp_path / "training_log.parquet"
    tables.write(pd.DataFrame(), path)
    assert list(pd.read_parquet(path)) == list(tables.schema_of(path).columns)


def test_a_table_that_is_not_declared_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dreams\.csv: is no declared table; allowed is claims"):
        tables.write(metric_rows(), tmp_path / "dreams.csv")


def written_by_rules() -> set[str]:
    """Tables among the outputs of the rules; those beside figures show a part of others."""
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    found = re.findall(r'^ +\w+="(<\w+>/[^"]+\.(?:csv|tsv|parquet))"', text, re.MULTILINE)
    known = {re.sub(r"\{\w+\}", "x", path.replace("<run>", "seed0")) for path in found}
    return {path for path in known if "/figures/" not in path and "annot" not in path}


def test_every_table_of_a_rule_is_declared_once_and_no_other():
    used = set()
    for path in written_by_rules():
        fitting = [file for file in tables.schemas() if Path(path).match(file)]
        assert fitting, path
        used.add(
            next(file for file, one in tables.schemas().items() if one is tables.schema_of(path))
        )
    assert used == set(tables.schemas())


def test_every_meaning_is_used_and_needed():
    declared = tomllib.loads((ROOT / "workflow/lib/patchwork/tables.toml").read_text())
    shared, left = declared.pop("columns"), set()
    for file, one in declared.items():
        names, own = one["columns"].split(), set(one.get("means", {}))
        assert len(set(names)) == len(names), file
        assert own | set(one.get("optional", "").split()) <= set(names), file
        left |= set(names) - own
    assert left == set(shared)


def test_findings_are_declared_as_the_library_writes_them():
    assert tuple(tables.schema_of("findings/metrics.csv").columns) == tables.FINDINGS
