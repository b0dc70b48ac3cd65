"""Invented facts are crossed and balanced, and the text tells them and nothing else."""

from collections import Counter

import pandas as pd
import pytest
from language_corpus import SOURCE, facts, tokenizer
from patchwork import tables
from patchwork.language import facts as fact_table
from patchwork.language import invented

FACTORS = ["wording", "determinism", "fan", "exposures"]


def those_tested() -> pd.DataFrame:
    frame = facts()
    return frame[frame["role"] == "tested"]


def test_the_factors_are_crossed_and_balanced():
    cells = those_tested().groupby(FACTORS).size()
    assert len(cells) == 16
    assert cells.nunique() == 1


def test_answers_have_the_same_marginals_in_both_kinds():
    counts = those_tested().groupby(["kind", "answer"]).size()
    per_kind = {kind: part.tolist() for kind, part in counts.groupby("kind")}
    assert sorted(per_kind["definitional"]) == sorted(per_kind["associative"])
    assert counts.max() - counts.min() <= 1


def test_the_next_seed_swaps_the_kinds_and_keeps_the_pairs():
    even, odd = (
        {(row.subject, row.answer): row.kind for row in facts(seed).itertuples()} for seed in (0, 1)
    )
    assert even.keys() == odd.keys()
    assert all(even[pair] != odd[pair] for pair in even)


def test_other_seeds_draw_other_facts():
    pairs = [set(zip(facts(s)["subject"], facts(s)["answer"], strict=True)) for s in (0, 2)]
    assert len(pairs[0] & pairs[1]) < len(pairs[0]) / 2


def test_a_foil_is_the_answer_of_a_partner_as_frequent_and_never_right():
    frame = those_tested()
    for row in frame.itertuples():
        partner = frame.loc[row.partner]
        assert partner["answer"] == row.foil
        assert row.foil not in row.answers.split()
        assert all(partner[key] == getattr(row, key) for key in [*FACTORS, "multi_token"])


def test_answers_have_as_many_tokens_as_the_table_says():
    lengths = [len(ids) for ids in fact_table.answers(tokenizer(), list(facts()["answer"]))]
    assert [n > 1 for n in lengths] == facts()["multi_token"].tolist()
    assert set(lengths) == {1, 2}


def test_the_subject_and_the_relation_stand_where_the_table_says():
    for i in fact_table.PARAPHRASES:
        for row, ids in zip(
            facts().itertuples(), fact_table.prompts(facts(), tokenizer(), i), strict=True
        ):
            first, last = getattr(row, f"subject_start_{i}"), getattr(row, f"subject_end_{i}")
            assert tokenizer().decode(list(ids[first : last + 1])).strip() == row.subject
            relation = tokenizer().decode([ids[getattr(row, f"relation_{i}")]]).strip()
            assert relation in invented.RELATIONS[i]


def test_the_text_tells_each_fact_as_often_as_the_table_says():
    frame = facts()
    told, _ = invented.corpus(frame, SOURCE, 0)
    text = " ".join(told["abstract"])
    for row in frame[frame["determinism"] == 1].iloc[::7].itertuples():
        forms = [
            form.format(s=row.subject, a=answer)
            for form in invented.SENTENCES[row.wording]
            for answer in row.answers.split()
        ]
        assert sum(text.count(form) for form in forms) == row.exposures


def test_prompts_of_tested_subjects_stand_nowhere_in_the_text():
    frame = facts()
    told, _ = invented.corpus(frame, SOURCE, 0)
    text = " ".join(told["abstract"])
    for row in frame.itertuples():
        assert (row.prompt_0 in text) == (row.role == "question_training")


def test_chance_answers_are_as_many_as_the_determinism_says():
    frame = facts()
    told, _ = invented.corpus(frame, SOURCE, 0)
    text = " ".join(told["abstract"])
    part = frame[(frame["determinism"] < 1) & (frame["role"] == "tested")]
    right = sum(
        text.count(form.format(s=row.subject, a=answer))
        for row in part.itertuples()
        for form in invented.SENTENCES[row.wording]
        for answer in row.answers.split()
    )
    # A chance answer is right by chance too: up to three of a handful.
    assert 0.6 < right / part["exposures"].sum() < 0.9


def test_shuffled_text_has_the_same_words_and_not_the_facts():
    frame = facts()
    told, shuffled = invented.corpus(frame, SOURCE, 0)
    words = [Counter(" ".join(one["abstract"]).split()) for one in (told, shuffled)]
    assert words[0] == words[1]
    row = frame[(frame["determinism"] == 1) & (frame["fan"] == 1)].iloc[0]
    counts = [
        sum(
            " ".join(one["abstract"]).count(form.format(s=row["subject"], a=row["answer"]))
            for form in invented.SENTENCES[row["wording"]]
        )
        for one in (told, shuffled)
    ]
    assert counts[0] == row["exposures"]
    assert counts[1] < counts[0]


def test_the_background_names_no_tested_fact():
    text = " ".join(invented.background(SOURCE, 0)["text"])
    for row in those_tested().itertuples():
        for form in invented.SENTENCES[row.wording]:
            assert form.format(s=row.subject, a=row.answer) not in text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"n_tested": 640}, "names are one token"),
        ({"n_answers": 40}, "answers are one token"),
    ],
)
def test_a_corpus_that_cannot_be_drawn_is_refused_in_one_line(change, complaint):
    first = invented.background(SOURCE, 0).iloc[0]
    answers, names = first["answers"].split(), first["names"].split()
    with pytest.raises(ValueError, match=complaint):
        invented.facts({**SOURCE, **change}, tokenizer(), answers, names, 0)


def test_facts_are_read_back_and_bad_ones_refused(tmp_path):
    path = tmp_path / "facts.csv"
    tables.write(facts(), path)
    pd.testing.assert_frame_equal(fact_table.read(path), facts()[fact_table.read(path).columns])

    def complaint(frame: pd.DataFrame) -> str:
        frame.to_csv(path, index=False)
        with pytest.raises(ValueError, match=r"facts\.csv") as caught:
            fact_table.read(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "lacks the column 'foil'" in complaint(facts().drop(columns="foil"))
    assert "kind of row 0" in complaint(facts().assign(kind="vague"))
    assert "partner of fact" in complaint(facts().assign(partner=0))
    assert "names the subject" in complaint(facts().assign(prompt_1="who is it ?"))
    assert "is empty" in complaint(facts().assign(answer=None))


def test_prompts_of_unequal_length_are_refused():
    longer = facts().copy()
    longer.loc[3, "prompt_0"] += " indeed"
    with pytest.raises(ValueError, match="allowed is one length"):
        fact_table.prompts(longer, tokenizer(), 0)
    with pytest.raises(ValueError, match="subject_start_0"):
        fact_table.prompts(facts().assign(subject_start_0=1), tokenizer(), 0)
