import pandas as pd
import pytest
from patchwork import claims, show, tables

# Estimate, the ends that are shown and those that decide.
ROWS = {"q": (1.5, 1.0, 2.0, 1.1, 1.9), "c": (0.5, 0.4, 0.6, 0.42, 0.58)}
FINDINGS = pd.DataFrame(
    [("s", name, "d", "b", "p", *numbers, 10, 3) for name, numbers in ROWS.items()],
    columns=["study", *tables.FINDINGS],
)
ADDRESS = {"dataset": "d", "backbone": "b", "protocol": "p"}
CLAIMS = {
    "X1": {
        "study": "s", "paper": "a paper", "statement": "Things are large.", "published": 2,
        "decisions": [
            {**ADDRESS, "quantity": "q", "claimed": [0.9, 3], "survives": [1, None],
             "control": {**ADDRESS, "quantity": "c", "description": "a null"}},
            {**ADDRESS, "quantity": "absent", "claimed": [0.9, 3]},
        ],
    }
}  # fmt: skip


def table() -> pd.DataFrame:
    return claims.decide(CLAIMS, FINDINGS)


def test_the_text_holds_every_claim_verdict_and_reason():
    text = show.lines(table(), 80)
    assert all(len(line) <= 80 for line in text)
    joined = " ".join(" ".join(text).split())
    assert "X1 Things are large." in joined
    assert "artefact: The estimate 1.5 [90 %: 1.1, 1.9] lies in the claimed region" in joined
    assert "not run: This run did not compute the estimate." in joined
    assert "artefact: 1, not run: 1" in text[-1]


def test_the_markdown_has_one_row_per_claim_and_one_column_per_protocol():
    known = table()
    known.loc[1, "protocol"] = "q"
    assert show.markdown(known) == [
        "| claim | p | q |", "|---|---|---|",
        "| **X1** Things are large. | artefact | not run |",
    ]  # fmt: skip
    other = known.loc[1:].assign(claim="X2", statement="Others are small.")
    both = show.markdown(pd.concat([known, other]))
    assert both[3] == "| **X2** Others are small. |  | not run |"


def test_two_decisions_of_one_protocol_share_a_cell():
    assert show.markdown(table())[2].endswith("| artefact; not run |")


def test_the_full_markdown_has_one_row_per_decision():
    text = show.markdown_full(table())
    assert len(text) == 4
    said = "| **X1** Things are large. | p | 1.5 [1, 2] | 0.605 | a null: 0.5 |  | artefact |"
    assert text[2] == said
    assert text[3] == "|  | p |  |  |  |  | not run |"


def test_an_estimate_without_interval_says_so():
    known = table()
    known.loc[0, ["ci_low", "ci_high"]] = float("nan")
    assert "| 1.5 (no interval) |" in show.markdown_full(known)[2]


def test_a_folder_without_claims_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"claims.csv: not there"):
        show.main(tmp_path)
    table().to_csv(tmp_path / "claims.csv", index=False)
    show.main(tmp_path)
    assert "report.html" in capsys.readouterr().out
    show.main(tmp_path, "--markdown")
    assert capsys.readouterr().out.startswith("| claim | p |")
    show.main(tmp_path, "--markdown-full")
    assert capsys.readouterr().out.startswith("| claim | protocol |")


def test_changes_name_verdicts_that_differ_are_new_or_are_gone():
    previous = table()
    assert show.changes(table(), previous) == []
    now = previous.assign(verdict=["artefact", "fails"])
    assert show.changes(now, previous) == ["X1 p: fails, was not run"]
    assert show.changes(now, previous[:1]) == ["X1 p: fails (new)"]
    assert show.changes(now[:1], previous) == ["X1 p: gone, was not run"]
    # Numbers that move without a verdict are no change.
    assert show.changes(previous.assign(estimate=7.0), previous) == []


def test_differences_show_rows_whose_verdict_depends_on_the_run(tmp_path, capsys):
    runs = {"one": table(), "two": table().assign(verdict=["fails", "fails"], estimate=[1.7, None])}
    # The second row was computed by no run.
    assert show.differences(runs) == [
        "X1 p:", "  one: artefact, 1.5 [1, 2]", "  two: fails, 1.7 [1, 2]",
        "0 of 1 verdicts are the same in one, two",
    ]  # fmt: skip
    for name, run in (("a", table()), ("b", table().assign(estimate=[9.0, None]))):
        (tmp_path / name).mkdir()
        run.to_csv(tmp_path / name / "claims.csv", index=False)
    show.main(tmp_path / "a", "--against", str(tmp_path / "b"))
    assert capsys.readouterr().out == "1 of 1 verdicts are the same in a, b\n"


def test_a_summary_compares_with_the_last_summary(tmp_path, capsys):
    def shown(claimed: pd.DataFrame) -> str:
        claimed.to_csv(tmp_path / "claims.csv", index=False)
        show.main(tmp_path, "--summary")
        return capsys.readouterr().out

    first = shown(table())
    assert first.startswith("2 verdicts: artefact: 1, not run: 1\n1 of 1 tested rows ")
    assert str(tmp_path / "report.html") in first
    assert "no verdict changed since the last run" in shown(table())
    changed = shown(table().assign(verdict=["replicates", "undetermined"]))
    assert "changed since the last run:\n  X1 p: replicates, was artefact\n" in changed
