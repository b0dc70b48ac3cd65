"""Everything that is asked of one network: what it knows, where, and what edits do to it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from patchwork.analysis.knowledge import released, tracing
from patchwork.analysis.knowledge.questions import Questions, about_facts, about_names, accepted
from patchwork.interventions import editing, read
from patchwork.language import tokens
from patchwork.models import sites
from patchwork.models.sites import Site

FACTORS = ("kind", "determinism", "fan", "exposures")
_PARAPHRASES = (0, 1)


@dataclass(frozen=True)
class Tracing:
    """How a network is traced.

    Attributes:
        gap_min: least gap of a fact that is used, nat.
        n_facts: of each kind that are traced; None: all.
        set_share: of the gap that a set of sites must restore, 0 to 1.
        sites_max: sites of the largest set.
        widths: layers of the windows.
        window_roles: tokens at which windows are patched.
        noise_sd: of the noise on the subject, in standard deviations of its embeddings.
        n_attribution: questions on which attribution patching is compared with the sweep.
        copy_template: text of the copy task.
    """

    gap_min: float
    n_facts: int | None
    set_share: float
    sites_max: int
    widths: Sequence[int]
    window_roles: Sequence[str]
    noise_sd: float
    n_attribution: int
    copy_template: str


@dataclass(frozen=True)
class Editing:
    """How a network is edited.

    Attributes:
        n_facts: of each kind that are edited, on the half that tracing did not choose layers by.
        n_prefixes: of each length.
        prefix_lengths: tokens.
        n_value_prefixes: of all prefixes, those in which the new value is optimised.
        tokens_per_unit: tokens of the second moment for each unit of the MLP.
        n_neighbours: other facts whose answers must stay.
        n_texts: texts whose perplexity is measured.
        candidates: numbers of `editing.Optimiser` tried on other facts; the best is taken.
        n_tuning: facts that choose them.
        tuning_rate: learning rate of constrained fine-tuning.
        tuning_steps: its steps.
        tuning_bound: its largest change of a weight.
    """

    n_facts: int
    n_prefixes: int
    prefix_lengths: Sequence[int]
    n_value_prefixes: int
    tokens_per_unit: int
    n_neighbours: int
    n_texts: int
    candidates: Sequence[Mapping[str, float]]
    n_tuning: int
    tuning_rate: float
    tuning_steps: int
    tuning_bound: float


def trace(
    model: nn.Module, tokenizer: Tokenizer, facts: pd.DataFrame, settings: Tracing, seed: int
) -> dict[str, pd.DataFrame]:
    """Trace the tested facts of one network.

    Args:
        model: a GPT-2 in eval mode.
        tokenizer: its own.
        facts: the table of facts.
        settings: see `Tracing`.
        seed: of noise and donors.

    Returns:
        Tables by name, as tables.toml describes them: traced_facts, traces, minimal_sets,
        attribution, released.
    """
    tested = facts[facts["role"] == "tested"].reset_index(drop=True)
    chosen = _spread(tested, settings.n_facts)
    asked = [
        [part.where(chosen["fact"]) for part in about_facts(tested, tokenizer, k)]
        for k in _PARAPHRASES
    ]
    copied = [
        [
            part.where(chosen["fact"])
            for part in about_names(tested, tokenizer, settings.copy_template)
        ]
    ]
    right = accepted(chosen, tokenizer)
    names = {
        fact: {int(token)}
        for part in copied[0]
        for fact, token in zip(part.fact, part.right, strict=True)
    }
    known = pd.concat(
        [
            tracing.knowledge(model, group, answers, settings.gap_min).assign(task=task)
            for task, group, answers in (("fact", asked, right), ("copy", copied, names))
        ]
    )
    known["full"] = known["fact"].map(full_answers(model, tokenizer, chosen)).where(
        known["task"] == "fact"
    )  # fmt: skip
    columns = ["kind", "determinism", "fan", "exposures", "multi_token", "split_half"]
    described = known.merge(chosen[["fact", *columns]], on="fact")
    flat = [part for group in asked for part in group]
    single = tracing.traces(model, asked, task="fact")
    together = tracing.Together(model, flat)
    layers = sites.find(model).n_layers
    wide = tracing.windows(together, layers, settings.window_roles, settings.widths)
    copies = tracing.traces(model, copied, task="copy", both=False)
    others = [
        copies,
        tracing.controls(model, asked, seed, settings.noise_sd),
        *(tracing.after_the_answer(model, part) for part in asked[0]),
        wide.assign(task="fact", direction=tracing.DIRECTIONS[0]),
    ]
    whole = pd.concat([single, *others], ignore_index=True)
    whole["width"] = whole["width"].fillna(1).astype(int)
    sets = [
        _sets(model, group, traced, described[described["task"] == task], settings)
        for task, group, traced in (("fact", flat, single), ("copy", copied[0], copies))
    ]
    correlation = tracing.attribution_correlation(model, flat[0], settings.n_attribution)
    return {
        "traced_facts": described,
        "traces": whole,
        "minimal_sets": pd.concat(sets, ignore_index=True),
        "attribution": pd.DataFrame(
            [{"component": name, "r": r} for name, r in correlation.items()]
        ),
        "released": _released(model, tokenizer, chosen),
    }


def _spread(facts: pd.DataFrame, n: int | None) -> pd.DataFrame:
    """At most n facts of each kind, evenly from all its rows, so that factors stay balanced."""
    parts = []
    for _, part in facts.groupby("kind", sort=False):
        rows = np.arange(len(part))
        if n is not None and n < len(part):
            rows = np.linspace(0, len(part) - 1, n).round().astype(int)
        parts.append(part.iloc[rows])
    return pd.concat(parts, ignore_index=True)


def _sets(
    model: nn.Module,
    parts: Sequence[Questions],
    traced: pd.DataFrame,
    known: pd.DataFrame,
    settings: Tracing,
) -> pd.DataFrame:
    """Minimal sets of the used facts of each level of each factor."""
    used = known[known["status"] == "used"]
    frames = []
    for factor in FACTORS:
        for level, some in used.groupby(factor):
            curves = tracing.minimal_sets(
                model, parts, traced, some.set_index("fact")["split_half"],
                share=settings.set_share, most=settings.sites_max,
            )  # fmt: skip
            task = traced["task"].iloc[0]
            frames.append(curves.assign(task=task, factor=factor, level=str(level)))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def full_answers(model: nn.Module, tokenizer: Tokenizer, facts: pd.DataFrame) -> dict[int, float]:
    """Log probability of the whole answer less that of the whole foil by fact, nat."""
    total = {int(fact): 0.0 for fact in facts["fact"]}
    for k in _PARAPHRASES:
        for column, sign in (("answer", 1.0), ("foil", -1.0)):
            for fact, log_p in _completions(model, tokenizer, facts, f"prompt_{k}", column):
                total[fact] += sign * log_p / len(_PARAPHRASES)
    return total


def _completions(
    model: nn.Module, tokenizer: Tokenizer, facts: pd.DataFrame, prompt: str, column: str
) -> Iterator[tuple[int, float]]:
    end = tokens.end_of(tokenizer)
    by_size: dict[tuple[int, int], list[tuple[int, list[int]]]] = {}
    for one in facts.to_dict("records"):
        start, answer = tokens.encode(tokenizer, [str(one[prompt]), str(one[column])])
        row = (int(one["fact"]), [end, *start, *answer])
        by_size.setdefault((len(start), len(answer)), []).append(row)
    for (before, size), group in by_size.items():
        ids = torch.tensor([row for _, row in group])
        with torch.no_grad():
            log_p = model(ids).logits.log_softmax(-1)[:, before : before + size]
        said = log_p.gather(2, ids[:, before + 1 :, None])[..., 0].sum(1)
        for (fact, _), value in zip(group, said.tolist(), strict=True):
            yield fact, value


def _released(model: nn.Module, tokenizer: Tokenizer, facts: pd.DataFrame) -> pd.DataFrame:
    """The released procedure on one pair of texts, each with its answer."""
    one, other = (facts[facts["kind"] == kind].iloc[0] for kind in facts["kind"].unique()[:2])
    end = tokens.end_of(tokenizer)
    # Questions of two kinds: neither subjects nor lengths nor answers agree.
    texts = [f"{one['prompt_0']} {one['answer']}", f"{other['prompt_1']} {one['foil']}"]
    clean, corrupted = (torch.tensor([end, *ids]) for ids in tokens.encode(tokenizer, texts))
    right, wrong = tokens.encode(tokenizer, [one["answer"], one["foil"]])
    return released.recovery(model, clean, corrupted, right.tolist(), wrong.tolist())


@dataclass
class _Asked:
    """Prompts of the same facts in two paraphrases, with old and new answers."""

    edited: Questions
    paraphrase: Questions


def edit(
    model: nn.Module,
    tokenizer: Tokenizer,
    facts: pd.DataFrame,
    known: pd.DataFrame,
    texts: Sequence[str],
    settings: Editing,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Edit facts of one network at every layer, one at a time.

    The new answer of a fact is its foil. Only facts of one token that the network knows are edited,
    of the half of the facts that is not used to choose layers by tracing (``split_half`` 1).

    Args:
        model: a GPT-2 in eval mode; as it was when this returns.
        tokenizer: its own.
        facts: the table of facts.
        known: of `trace`: traced_facts.
        texts: for the second moment, the last ones for perplexity.
        settings: see `Editing`.
        seed: of prefixes and random changes.

    Returns:
        `edits`: one row per fact, layer and method; `moments`: one row per layer. Both are empty
        for a network that knows no fact to edit.

    Raises:
        ValueError: if a prompt behind the longest prefix is longer than what the model sees.
    """
    chosen = _editable(facts, known, settings.n_facts)
    if chosen.empty:
        return {"edits": pd.DataFrame(), "moments": pd.DataFrame()}
    asked = _questions(tokenizer, facts, chosen)
    tuning = facts[(facts["role"] == "question_training") & ~facts["multi_token"].astype(bool)]
    context = int(cast(Any, model).config.n_positions)
    longest = asked.edited.clean.shape[1] + max(settings.prefix_lengths)
    if longest > context:
        raise ValueError(
            f"prefix_lengths is {list(settings.prefix_lengths)}; allowed is at most "
            f"{context - asked.edited.clean.shape[1]}, what the model's {context} tokens leave"
        )
    rows = torch.from_numpy(tokens.chunked(tokenizer, texts, context))
    kept, seen = rows[-settings.n_texts :], rows[: -settings.n_texts]
    prefixes = editing.sampled_prefixes(
        model, tokens.end_of(tokenizer), tuple(settings.prefix_lengths), settings.n_prefixes, seed
    )
    layers = range(sites.find(model).n_layers)
    keys = _keys(model, seen, settings.tokens_per_unit, tokens.end_of(tokenizer))
    moments = {layer: editing.second_moment(keys[layer]) for layer in layers}
    surroundings = _Surroundings(model, tokenizer, facts, known, kept, settings.n_neighbours)
    options = _best_options(
        model, _questions(tokenizer, facts, tuning["fact"].iloc[: settings.n_tuning]),
        prefixes, moments, settings,
    )  # fmt: skip
    frames = [surroundings.scores(asked, 0, None, "none", -1)]
    for layer in layers:
        changes = _changes(model, layer, asked, prefixes, moments[layer], options, settings, seed)
        for method, several in changes.items():
            for i, change in enumerate(several):
                frames.append(surroundings.scores(asked, layer, change, method, i))
    described = facts[["fact", "kind", "determinism", "fan", "exposures"]]
    return {
        "edits": pd.concat(frames, ignore_index=True).merge(described, on="fact"),
        "moments": pd.DataFrame(
            [
                {
                    "layer": layer, "shrinkage": one.shrinkage, "condition": one.condition,
                    "n_tokens": one.n_tokens, "learning_rate": options.learning_rate,
                    "decay": options.decay,
                }
                for layer, one in moments.items()
            ]
        ),
    }  # fmt: skip


def _editable(facts: pd.DataFrame, known: pd.DataFrame, n: int) -> pd.Series:
    used = known[(known["task"] == "fact") & (known["status"] == "used")]
    used = used[~used["multi_token"].astype(bool) & (used["split_half"] == 1)]
    return _spread(used, n)["fact"] if len(used) else facts["fact"].iloc[:0]


def _questions(tokenizer: Tokenizer, facts: pd.DataFrame, some: pd.Series) -> _Asked:
    both = []
    for k in _PARAPHRASES:
        parts = [
            part for part in about_facts(facts, tokenizer, k) if np.isin(part.fact, some).any()
        ]
        if len(parts) != 1:
            raise ValueError(
                f"prompts of paraphrase {k} have {len(parts)} lengths among {len(some)} facts to "
                "edit; allowed is one"
            )
        both.append(parts[0].where(some))
    return _Asked(*both)


def _keys(model: nn.Module, rows: Tensor, per_unit: int, end: int) -> dict[int, Tensor]:
    """Keys of every layer at tokens of texts, their ends left out."""
    anatomy = sites.find(model)
    n = -(-per_unit * anatomy.d_hidden // rows.shape[1])
    some = rows[: max(n, 1)]
    inside = some != end
    inside[:, 0] = True
    chosen = [Site("mlp_hidden", layer) for layer in range(anatomy.n_layers)]
    with torch.no_grad():
        found = read(model, chosen, some)
    return {site.layer: found[site][inside] for site in chosen}


def _changes(
    model: nn.Module,
    layer: int,
    asked: _Asked,
    prefixes: list[Tensor],
    moment: editing.Moment,
    options: editing.Optimiser,
    settings: Editing,
    seed: int,
) -> dict[str, list[Tensor]]:
    one = asked.edited
    pad = int(one.clean[0, 0])
    contexts = tuple(
        editing.in_contexts(one.clean, one.roles[:, 1], some, pad)
        for some in (prefixes, _some(prefixes, settings.n_value_prefixes))
    )
    found = {
        f"rome_{name}": several
        for name, several in editing.rome(
            model, layer, cast(Any, contexts), one.wrong, moment, options
        ).items()
    }
    found["random"] = [
        editing.random_rank_one(change, seed + i) for i, change in enumerate(found["rome_mean"])
    ]
    found["tuned"] = [
        editing.constrained_tuning(
            model, layer, prompt, int(new), learning_rate=settings.tuning_rate,
            steps=settings.tuning_steps, bound=settings.tuning_bound,
        )
        for prompt, new in zip(one.clean, one.wrong, strict=True)
    ]  # fmt: skip
    return found


def _some(prefixes: list[Tensor], n: int) -> list[Tensor]:
    """So many of the prefixes, evenly from all lengths."""
    return [prefixes[i] for i in np.linspace(0, len(prefixes) - 1, n).round().astype(int)]


def _best_options(
    model: nn.Module,
    asked: _Asked,
    prefixes: list[Tensor],
    moments: Mapping[int, editing.Moment],
    settings: Editing,
) -> editing.Optimiser:
    """The candidate after which the new answer is most probable, in the middle layer."""
    layer, one = len(moments) // 2, asked.edited
    context = editing.in_contexts(
        one.clean, one.roles[:, 1], _some(prefixes, settings.n_value_prefixes), int(one.clean[0, 0])
    )
    said = []
    candidates = [editing.Optimiser(**cast(Any, numbers)) for numbers in settings.candidates]
    for options in candidates:
        changes = editing.rome(model, layer, (context, context), one.wrong, moments[layer], options)
        total = 0.0
        for i, change in enumerate(changes["mean"]):
            with editing.edited(model, layer, change):
                total += float(_odds(model, one.take(np.array([i])))[0])
        said.append(total)
    return candidates[int(np.argmax(said))]


def _odds(model: nn.Module, questions: Questions) -> Tensor:
    """Probability of the new answer (the foil) less that of the old one, (n,)."""
    with torch.no_grad():
        p = model(questions.clean).logits[:, -1].softmax(-1)
    return (p.gather(1, questions.wrong[:, None]) - p.gather(1, questions.right[:, None]))[:, 0]


class _Surroundings:
    """What an edit must not change: other facts and plain text."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        facts: pd.DataFrame,
        known: pd.DataFrame,
        texts: Tensor,
        n_neighbours: int,
    ) -> None:
        self.model, self.texts, self.n = model, texts, n_neighbours
        used = known[(known["task"] == "fact") & (known["status"] == "used")]["fact"]
        groups = about_facts(facts, tokenizer, 0)
        self.others = [one.where(used) for one in groups if np.isin(one.fact, used).any()]
        self.kinds = facts.set_index("fact")["kind"]

    def neighbours(self, fact: int, old: int, new: int) -> Questions | None:
        """Facts of the kind with the same old answer first, none with the new one."""
        if not self.others:
            return None
        one = self.others[0]
        same = (self.kinds.loc[one.fact].to_numpy() == self.kinds[fact]) & (one.fact != fact)
        free = np.flatnonzero(same & (one.right.numpy() != new))
        first = free[np.argsort(one.right.numpy()[free] != old, kind="stable")][: self.n]
        if not len(first):
            return None
        chosen = one.take(first)
        return Questions(
            chosen.fact, chosen.clean, chosen.corrupted, chosen.roles, chosen.right,
            torch.full_like(chosen.right, new),
        )  # fmt: skip

    def scores(
        self, asked: _Asked, layer: int, change: Tensor | None, method: str, row: int
    ) -> pd.DataFrame:
        """What the network says after the change meant for one fact; of all facts without one."""
        rows = range(len(asked.edited.fact)) if row < 0 else [row]
        if change is None:
            return pd.DataFrame([self._row(asked, i, layer, method) for i in rows])
        with editing.edited(self.model, layer, change):
            return pd.DataFrame([self._row(asked, i, layer, method) for i in rows])

    def _row(self, asked: _Asked, i: int, layer: int, method: str) -> dict[str, Any]:
        one, other = (part.take(np.array([i])) for part in (asked.edited, asked.paraphrase))
        fact, old, new = int(one.fact[0]), int(one.right[0]), int(one.wrong[0])
        said, reworded = (float(_odds(self.model, part)[0]) for part in (one, other))
        near = self.neighbours(fact, old, new)
        kept = _odds(self.model, near) if near is not None else torch.tensor([float("nan")])
        return {
            "fact": fact, "layer": layer if method != "none" else -1, "method": method,
            "efficacy": float(said > 0), "efficacy_margin": said,
            "paraphrase": float(reworded > 0), "paraphrase_margin": reworded,
            "specificity": float((kept < 0).double().mean()) if near is not None else np.nan,
            "specificity_margin": float(-kept.mean()), "perplexity": self._perplexity(),
        }  # fmt: skip

    def _perplexity(self) -> float:
        with torch.no_grad():
            log_p = self.model(self.texts).logits[:, :-1].log_softmax(-1)
        said = log_p.gather(2, self.texts[:, 1:, None])[..., 0]
        # Behind a text stands its end once; the rest of the row is filling.
        inside = (self.texts[:, 1:] != self.texts[0, 0]) | (self.texts[:, :-1] != self.texts[0, 0])
        return float(torch.exp(-said[inside].mean()))
