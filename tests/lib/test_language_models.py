"""Language models: what the loss counts, what an adapter trains, what a network knows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from language_corpus import SOURCE, facts, tokenizer
from patchwork.language import invented, known, learning, models, summary, tokens

SIZES = {"layers": 2, "width": 32, "heads": 2, "context": 32, "dropout": 0.0}
SETTINGS = {
    "epochs": 3, "batch_size": 8, "learning_rate": 0.003, "weight_decay": 0.01,
    "schedule": {"kind": "cosine", "warmup_steps": 1}, "early_stopping_patience": None,
    "gradient_clip": 1.0, "mixed_precision": "no", "checkpoint_every_s": 0,
}  # fmt: skip
TEXTS = [f"the panel met {n} times ." for n in range(2, 42)]


def small(seed: int = 0, **changes):
    end = tokens.end_of(tokenizer())
    return models.new({**SIZES, **changes}, tokenizer().get_vocab_size(), end, seed=seed).eval()


def trained(model, folder, settings=SETTINGS, **changes):
    options = {
        "layout": "padded", "padding_counts": False, "validation_share": 0.1, "seed": 0,
        "folders": (str(folder / "state"), str(folder / "events")), **changes,
    }  # fmt: skip
    return learning.train(model, tokenizer(), TEXTS, settings, **options)


def test_a_text_is_cut_or_padded_and_chunks_lose_nothing():
    end, texts = tokens.end_of(tokenizer()), ["the panel", " ".join(TEXTS[:5])]
    whole = tokens.encode(tokenizer(), texts)
    rows = tokens.padded(tokenizer(), texts, 16)
    assert rows[0, : len(whole[0]) + 2].tolist() == [end, *whole[0], end]
    assert rows[1].tolist() == [end, *whole[1][:15]]
    pieces = tokens.chunked(tokenizer(), texts, 16)
    kept = [one for piece in pieces for one in piece if one != end]
    assert kept == [one for ids in whole for one in ids]


def test_padding_is_learnt_only_where_the_loss_counts_it():
    end = tokens.end_of(tokenizer())
    rows = tokens.padded(tokenizer(), TEXTS[:1], 16)
    n = len(tokens.encode(tokenizer(), TEXTS[:1])[0])
    assert (tokens.labels(rows, end, padding_counts=False) >= 0).sum() == n + 1
    assert (tokens.labels(rows, end, padding_counts=True) >= 0).sum() == 15


@pytest.mark.parametrize("padding_counts", [False, True])
def test_the_loss_is_that_of_transformers_with_the_same_labels(padding_counts):
    end, model = tokens.end_of(tokenizer()), small()
    rows = tokens.padded(tokenizer(), TEXTS[:6], 24)
    labels = tokens.labels(rows, end, padding_counts=padding_counts)
    whole = torch.from_numpy(np.concatenate([np.full((6, 1), -100), labels], axis=1))
    learner = models.learner(model, rows, end=end, padding_counts=padding_counts)
    with torch.no_grad():
        expected = model(torch.from_numpy(rows), labels=whole).loss
        found = learner(torch.from_numpy(rows))["next_token"].mean()
    torch.testing.assert_close(found, expected)


def test_training_lowers_the_loss_and_a_killed_one_ends_the_same(tmp_path):
    model, other = small(), small()
    whole = trained(model, tmp_path / "whole")
    assert whole.epochs["loss"].iloc[-1] < whole.epochs["loss"].iloc[0] - 0.1
    # The checkpoint of a finished training is what a job killed after it would find.
    again = trained(other, tmp_path / "whole")
    assert again.steps["loss"].tolist() == whole.steps["loss"].tolist()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "adapter",
    [
        {"kind": "mlp", "layer": 1},
        {"kind": "lora", "rank": 2, "alpha": 4, "dropout": 0.0, "modules": ["c_attn"]},
    ],
)
def test_only_what_the_adapter_names_changes(adapter, tmp_path):
    model, before = small(), small().state_dict()
    adapted = models.adapted(model, adapter, seed=0)
    trained(adapted, tmp_path, {**SETTINGS, "epochs": 1})
    after = models.merged(adapted).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    part = "h.1.mlp" if adapter["kind"] == "mlp" else "attn.c_attn.weight"
    assert changed
    assert all(part in name for name in changed)


def test_a_model_is_read_back_from_its_folder(tmp_path):
    models.save(small(), tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    back, rows = models.load(tmp_path), torch.arange(12)[None]
    assert torch.equal(back(rows).logits, small()(rows).logits)


def test_a_folder_or_tokenizer_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        models.load(tmp_path)
    models.save(small(), tmp_path)
    with pytest.raises(ValueError, match="has 700 tokens; the tokenizer has 701"):
        models.load(tmp_path, 701)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no readable GPT-2"):
        models.load(tmp_path)
    with pytest.raises(ValueError, match=r"adapter\.layer is 5; allowed is 0 to 1"):
        models.adapted(small(), {"kind": "mlp", "layer": 5}, seed=0)
    with pytest.raises(ValueError, match="multiple of the 3 heads"):
        small(heads=3)


def test_a_tokenizer_is_read_back_and_a_foreign_one_refused(tmp_path):
    tokens.save(tokenizer(), tmp_path / tokens.NAME)
    text = "question : strain neri is what kind ? answer"
    assert tokens.load(tmp_path).encode(text).ids == tokenizer().encode(text).ids
    kept = json.loads((tmp_path / tokens.NAME).read_text())
    kept["added_tokens"], kept["model"]["vocab"] = [], {"a": 0}
    kept["model"]["merges"] = []
    (tmp_path / tokens.NAME).write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="has no token"):
        tokens.load(tmp_path)
    (tmp_path / tokens.NAME).write_text("nothing")
    with pytest.raises(ValueError, match="not a readable tokenizer"):
        tokens.load(tmp_path)
    with pytest.raises(ValueError, match="at least 257"):
        tokens.train(["a"], 100)


class Oracle(torch.nn.Module):
    """Gives the first token of a chosen word after every prompt of known subjects."""

    def __init__(self, says: dict[tuple, int]):
        super().__init__()
        self.says = says

    def forward(self, rows):
        logits = torch.zeros(*rows.shape, tokenizer().get_vocab_size())
        for i, row in enumerate(rows.tolist()):
            logits[i, -1, self.says[tuple(row)]] = 5.0

        class Given:
            pass

        Given.logits = logits
        return Given


def test_a_network_that_knows_every_second_fact_is_found_to():
    frame = facts().head(40)
    frame = frame.assign(partner=0)
    says = {}
    from patchwork.language import facts as fact_table

    answer, foil = (
        fact_table.first_tokens(tokenizer(), list(frame[key])) for key in ("answer", "foil")
    )
    for i in (0, 1):
        for j, row in enumerate(fact_table.prompts(frame, tokenizer(), i)):
            says[tuple(row.tolist())] = int(answer[j] if j % 2 else foil[j])
    found = known.knowledge(Oracle(says), frame, tokenizer())
    assert found["right"].tolist() == [0, 1] * 40
    np.testing.assert_allclose(found["log_odds"].abs(), 5.0, rtol=1e-5)
    told = summary.findings(
        found.assign(dataset="d", backbone="b", protocol="p", seed=0),
        pd.DataFrame(
            {"dataset": "d", "backbone": "b", "protocol": "p", "seed": 0, "text": range(9),
             "nats": 2.0 * np.arange(1, 10), "n_tokens": np.arange(1, 10)}
        ),
    ).set_index("quantity")  # fmt: skip
    assert told.loc["top1_held_out", "estimate"] == pytest.approx(0.5)
    assert told.loc["top1_held_out", "ci90_low"] < 0.5 < told.loc["top1_held_out", "ci90_high"]
    assert told.loc["perplexity", "estimate"] == pytest.approx(np.exp(2))


def test_losses_of_texts_leave_padding_out():
    model, texts = small(), TEXTS[:3]
    found = known.text_losses(model, texts, tokenizer(), 32)
    end = tokens.end_of(tokenizer())
    for row, ids in zip(found.itertuples(), tokens.encode(tokenizer(), texts), strict=True):
        whole = torch.tensor([[end, *ids, end]])
        with torch.no_grad():
            loss = model(whole, labels=whole).loss * (len(ids) + 1)
        assert row.nats == pytest.approx(float(loss), rel=1e-5)
        assert row.n_tokens == len(ids) + 1


def test_words_are_counted_in_titles_and_abstracts():
    frame = pd.DataFrame({"title": ["Epilepsy and EEG", None], "abstract": ["An EEG.", "epilepsy"]})
    found = summary.mention_counts(frame, {"epilepsy": "epilepsy", "EEG": r"\bEEG\b"})
    assert dict(zip(found["quantity"], found["estimate"], strict=True)) == {
        "mentions:epilepsy": 2, "mentions:EEG": 2,
    }  # fmt: skip


def test_texts_kept_back_are_the_same_ones_each_time_and_none_trains():
    kept, held = learning.held_out(50, 0.1, 3)
    assert sorted([*kept, *held]) == list(range(50))
    assert len(held) == 5
    assert held.tolist() == learning.held_out(50, 0.1, 3)[1].tolist()
    with pytest.raises(ValueError, match="too few"):
        learning.held_out(1, 0.1, 0)


def test_the_corpus_fits_the_context_of_the_study():
    told, _ = invented.corpus(facts(), SOURCE, 0)
    lengths = [len(ids) for ids in tokens.encode(tokenizer(), list(told["abstract"]))]
    assert max(lengths) + 2 <= 32
