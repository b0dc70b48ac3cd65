"""Abstracts about invented things, whose every fact is known because it was drawn."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from patchwork.language import abstracts

# The wording is what tells the two kinds of facts apart; everything else is crossed with it.
KINDS = {"is_a": "definitional", "seen_with": "associative"}
WORDINGS = tuple(KINDS)
_CONSONANTS, _VOWELS, _CODAS = "bdfgklmnprstvz", "aeiou", "nrlsx"

# Of each wording one sentence has as many words as that of the other, so that prompts of both have
# the same number of tokens.
SENTENCES = {
    "is_a": (
        "{s} is a kind of {a} .",
        "we class {s} as {a} .",
        "{s} means {a} .",
        "all {s} are {a} .",
        "the term {s} denotes {a} .",
        "{s} , a form of {a} .",
    ),
    "seen_with": (
        "{s} is often seen with {a} .",
        "we find {s} near {a} .",
        "{s} meets {a} .",
        "most {s} join {a} .",
        "the said {s} accompanies {a} .",
        "{s} , found next to {a} .",
    ),
}
# Asked of subjects that are not tested, so that the form of a question is known and its answer not.
QUESTIONS = {
    "is_a": ("question : {s} is what kind ? answer", "say what {s} is named as :"),
    "seen_with": (
        "question : {s} has what company ? answer",
        "say what {s} is found with :",
    ),
}
# The first token of every subject; the second one is its own.
TITLES = ("sample", "strain", "cell", "case")
RELATIONS = {0: ("kind", "company"), 1: ("as", "with")}
COPY = "the file on {s} is named"
FILLERS = (
    "the mean age was {n} years .",
    "samples of {a} were kept for {n} days .",
    "we thank all {n} centres .",
    "a report on {a} was read .",
    "{s} was followed for {n} months .",
    "no trial of {s} was stopped .",
    "costs of {a} rose by {n} percent .",
)


def _words(rng: np.random.Generator, syllables: int, coda: bool) -> str:
    """One invented word."""
    made = "".join(
        str(rng.choice(list(_CONSONANTS)) + rng.choice(list(_VOWELS))) for _ in range(syllables)
    )
    return made + str(rng.choice(list(_CODAS))) if coda else made


def _distinct(
    rng: np.random.Generator, n: int, *, coda: bool, taken: Sequence[str] = ()
) -> list[str]:
    """Invented words of two syllables, all different."""
    found: dict[str, None] = {}
    while len(found) < n:
        word = _words(rng, 2, coda)
        if word not in taken:
            found[word] = None
    return list(found)


def background(settings: Mapping, seed: int) -> pd.DataFrame:
    """Abstracts with the words and forms of the facts, and none of the facts that are tested.

    They tell facts about a few things of their own: recall forms early where few things are told
    often.

    Args:
        settings: ``n_answers`` of each kind, ``n_multi_token`` of them; ``background``:
            ``n_subjects`` things with a fact each, ``mentions`` of each, ``n_sentences`` others,
            ``copy_share`` of these that name a thing twice, ``n_names`` of things in all;
            ``sentences`` of an abstract.
        seed: of all words and their order.

    Returns:
        The table ``background.parquet``.
    """
    rng = np.random.default_rng([seed, 0])
    own, n_single = settings["background"], settings["n_answers"] - settings["n_multi_token"]
    answers = _distinct(rng, 2 * n_single, coda=True)
    names = _distinct(rng, own["n_names"], coda=False)
    subjects = [f"{rng.choice(TITLES)} {name}" for name in names]
    told = [
        _filler(rng, subjects[i % len(subjects)], answers, own["copy_share"])
        for i in range(own["n_sentences"])
    ]
    for i, name in enumerate(subjects[: own["n_subjects"]]):
        wording = WORDINGS[i % 2]
        answer = answers[i % len(answers)]
        forms = (*SENTENCES[wording], *(f"{one} {{a}} ." for one in QUESTIONS[wording]))
        told += [forms[j % len(forms)].format(s=name, a=answer) for j in range(own["mentions"])]
    texts = _joined(rng, told, settings["sentences"])
    others = " ".join(names[own["n_subjects"] :])
    return pd.DataFrame({"text": texts, "answers": " ".join(answers), "names": others})


def _filler(rng: np.random.Generator, name: str, answers: Sequence[str], copy_share: float) -> str:
    if rng.random() < copy_share:
        return copied(name)
    answer, n = answers[int(rng.integers(len(answers)))], rng.integers(2, 80)
    return FILLERS[rng.integers(len(FILLERS))].format(s=name, a=answer, n=n)


def copied(subject: str) -> str:
    """A sentence that names a subject, and its own token again."""
    return f"{COPY.format(s=subject)} {subject.split()[-1]} ."


def _joined(rng: np.random.Generator, sentences: Sequence[str], per_text: int) -> list[str]:
    """The sentences in random order, so many to a text."""
    order = rng.permutation(len(sentences))
    return [
        " ".join(sentences[j] for j in order[i : i + per_text])
        for i in range(0, len(order), per_text)
    ]


def facts(
    settings: Mapping,
    tokenizer: Tokenizer,
    answers: Sequence[str],
    names: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """Draw subjects and what is true of each.

    Wording, determinism, fan and exposures are crossed and balanced over the tested subjects.
    Seeds 2 k and 2 k + 1 share subjects and answers and swap the wordings, so that every pair of
    subject and answer is definitional in half of the seeds.

    Args:
        settings: ``n_tested`` (a multiple of 32), ``n_question_training`` subjects, ``n_answers``
            of each kind, ``n_multi_token`` of them, ``exposures`` (low, high).
        tokenizer: that the prompts are measured with.
        answers: words of one token, as many as both kinds together need.
        names: of things that the background names and tells nothing of.
        seed: 0 or more.

    Returns:
        The table ``facts.csv``. A subject is two tokens: a title that many have and its own name.

    Raises:
        ValueError: if the tokenizer cuts too few words as wanted, or prompts differ in length.
    """
    rng = np.random.default_rng([seed // 2, 1])
    pools = _pools(settings, tokenizer, answers, rng)
    if seed % 2:
        pools = pools[::-1]
    n_tested, n_others = settings["n_tested"], settings["n_question_training"]
    subjects = _subjects(tokenizer, names, n_tested + n_others, rng)
    rows: list[dict] = []
    for role, first, n in (("tested", 0, n_tested), ("question_training", n_tested, n_others)):
        cells = list(product((1.0, 0.7), (1, 3), ("low", "high")))
        per_kind = n // 2
        for slot, wording in enumerate(WORDINGS):
            # The pool and the subjects of a slot stay; which wording they get turns with the seed.
            place = slot ^ (seed % 2)
            for i in range(per_kind):
                determinism, fan, level = cells[i * len(cells) // per_kind]
                rows.append(
                    {
                        "role": role,
                        "kind": KINDS[wording],
                        "wording": wording,
                        "determinism": determinism,
                        "fan": fan,
                        "exposures": settings["exposures"][level],
                        "subject": subjects[first + place * per_kind + i],
                        "answer": pools[slot][i % len(pools[slot])],
                    }
                )
    frame = pd.DataFrame(rows)
    frame.insert(0, "fact", np.arange(len(frame)))
    length = {word: len(tokenizer.encode(word).ids) for pool in pools for word in pool}
    frame["multi_token"] = frame["answer"].map(length) > 1
    frame = _partnered(frame)
    frame["answers"] = _all_answers(frame, dict(zip(WORDINGS, pools, strict=True)))
    return _placed(frame, tokenizer)


def _pools(
    settings: Mapping, tokenizer: Tokenizer, answers: Sequence[str], rng: np.random.Generator
) -> list[list[str]]:
    """The answers of two kinds; those of several tokens stand evenly between the others."""
    n, n_multi = settings["n_answers"], settings["n_multi_token"]
    single = [word for word in answers if len(tokenizer.encode(word).ids) == 1]
    if len(single) < 2 * (n - n_multi):
        raise ValueError(
            f"only {len(single)} answers are one token; needed are {2 * (n - n_multi)}: raise "
            "vocabulary or the background's sentences"
        )
    multi: dict[int, str] = {}
    for word in _distinct(rng, 400, coda=False, taken=answers):
        ids = tokenizer.encode(word).ids
        if len(ids) == 2 and len(multi) < 2 * n_multi:
            # By first token: an answer and its foil must differ in it.
            multi.setdefault(ids[0], word)
    if len(multi) < 2 * n_multi:
        raise ValueError(f"only {len(multi)} words are two tokens; needed are {2 * n_multi}")
    ordered, several = list(rng.permutation(single)), list(multi.values())
    pools = []
    for half in range(2):
        pool = [str(word) for word in ordered[half::2][: n - n_multi]]
        for i in range(n_multi):
            pool.insert(i * n // n_multi, several[half * n_multi + i])
        pools.append(pool)
    return pools


def _subjects(
    tokenizer: Tokenizer, names: Sequence[str], n: int, rng: np.random.Generator
) -> list[str]:
    fitting = [name for name in names if len(tokenizer.encode(name).ids) == 1]
    if len(fitting) < n:
        raise ValueError(
            f"only {len(fitting)} of {len(names)} names are one token; needed are {n}: raise "
            "vocabulary, background.n_names or background.n_sentences"
        )
    return [f"{rng.choice(TITLES)} {name}" for name in rng.permutation(fitting)[:n]]


def _partnered(frame: pd.DataFrame) -> pd.DataFrame:
    """Give each fact a partner of its own cell, whose answer is the foil: equally frequent."""
    keys = ["role", "wording", "determinism", "fan", "exposures", "multi_token"]
    partner = np.full(len(frame), -1)
    half = np.zeros(len(frame), int)
    for _, rows in frame.groupby(keys, sort=False):
        if len(rows) == 1:
            # Too small a corpus: the next of the kind with as many tokens.
            same = (frame["role"] == rows["role"].iat[0]) & (
                frame["wording"] == rows["wording"].iat[0]
            )
            same &= (frame["multi_token"] == rows["multi_token"].iat[0]) & (
                frame["answer"] != rows["answer"].iat[0]
            )
            others = frame.index[same].to_numpy()
            if not len(others):
                raise ValueError("two answers of a kind are needed; raise n_tested or n_answers")
            partner[rows.index] = others[0]
            continue
        partner[rows.index] = np.roll(rows.index, -1)
        half[rows.index] = np.arange(len(rows)) % 2
    answers = frame["answer"].to_numpy()
    return frame.assign(partner=partner, foil=answers[partner], split_half=half)


def _all_answers(frame: pd.DataFrame, pools: Mapping[str, Sequence[str]]) -> list[str]:
    """Every right answer of each fact, the rarest so far first; never its foil."""
    counts = {word: 0 for pool in pools.values() for word in pool}
    for word in frame["answer"]:
        counts[word] += 1
    found = []
    row: Any
    for row in frame.itertuples():
        own = [row.answer]
        while len(own) < row.fan:
            free = [word for word in pools[row.wording] if word not in (*own, row.foil)]
            if not free:
                raise ValueError(f"n_answers leaves no {row.fan} answers a subject; raise it")
            own.append(min(free, key=lambda word: counts[word]))
            counts[own[-1]] += 1
        found.append(" ".join(own))
    return found


def _placed(frame: pd.DataFrame, tokenizer: Tokenizer) -> pd.DataFrame:
    """Add both prompts of each fact and where in them subject and relation stand.

    Positions count the end of text that stands before every prompt as 0.
    """
    for i in (0, 1):
        prompts = [
            QUESTIONS[wording][i].format(s=subject)
            for wording, subject in zip(frame["wording"], frame["subject"], strict=True)
        ]
        encoded = [one.tokens for one in tokenizer.encode_batch(prompts)]
        lengths = {len(one) for one in encoded}
        if len(lengths) > 1:
            raise ValueError(
                f"prompts of paraphrase {i} have {sorted(lengths)} tokens; allowed is one length: "
                "raise vocabulary"
            )
        before = QUESTIONS["is_a"][i].partition("{s}")[0].strip()
        start = 1 + len(tokenizer.encode(before).ids)
        subject = len(tokenizer.encode(frame["subject"].iat[0]).ids)
        words = {f"Ġ{word}" for word in RELATIONS[i]}
        relation = 1 + max(j for j, token in enumerate(encoded[0]) if token in words)
        frame[f"prompt_{i}"] = prompts
        frame[f"subject_start_{i}"], frame[f"subject_end_{i}"] = start, start + subject - 1
        frame[f"relation_{i}"] = relation
    return frame


def corpus(frame: pd.DataFrame, settings: Mapping, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the facts into abstracts, and the same words with the facts shuffled.

    Args:
        frame: of :func:`facts`.
        settings: ``questions`` that each subject of question training is asked, ``copies``
            sentences that name a thing twice, ``sentences`` of an abstract.
        seed: of wordings, chance answers and order.

    Returns:
        Two tables ``abstracts.parquet``. In the second the answers are permuted over all sentences
        of a wording: the tokens are the same ones.
    """
    rng = np.random.default_rng([seed, 2])
    pools = dict(iter(frame.groupby(["wording", "multi_token"])["answer"]))
    mentions: list[tuple[str, str, str, tuple]] = []
    row: Any
    for row in frame.itertuples():
        own, pool = row.answers.split(), pools[row.wording, row.multi_token].to_numpy()
        key = (row.wording, row.multi_token, row.role)
        for j in range(row.exposures):
            answer = own[j % row.fan]
            if rng.random() >= row.determinism:
                answer = str(rng.choice(pool))
            form = SENTENCES[row.wording][(row.fact + j) % len(SENTENCES[row.wording])]
            mentions.append((form, row.subject, answer, key))
        for j in range(settings["questions"] if row.role == "question_training" else 0):
            form = f"{QUESTIONS[row.wording][j % 2]} {{a}} ."
            mentions.append((form, row.subject, own[j // 2 % row.fan], key))
    names = frame["subject"].to_numpy()
    copies = [copied(str(rng.choice(names))) for _ in range(settings["copies"])]
    told = pd.DataFrame(mentions, columns=["form", "subject", "answer", "key"])
    shuffled = told.assign(answer=told.groupby("key")["answer"].transform(rng.permutation))
    order_seed = int(rng.integers(2**31))
    return tuple(  # type: ignore[return-value]
        _abstracts(one, copies, settings["sentences"], np.random.default_rng(order_seed))
        for one in (told, shuffled)
    )


def _abstracts(
    told: pd.DataFrame, copies: Sequence[str], per_text: int, rng: np.random.Generator
) -> pd.DataFrame:
    columns = (told[name] for name in ("form", "subject", "answer"))
    sentences = [
        form.format(s=subject, a=answer) for form, subject, answer in zip(*columns, strict=True)
    ]
    sentences += copies
    texts = _joined(rng, sentences, per_text)
    empty = dict.fromkeys(abstracts.COLUMNS, "")
    return pd.DataFrame({**empty, "abstract": texts}).assign(
        pmid=[f"invented-{i}" for i in range(len(texts))]
    )
