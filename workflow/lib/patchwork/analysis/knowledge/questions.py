"""Questions about facts as rows of tokens, each beside one about another subject."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch import Tensor

from patchwork.interventions import LogitDifference
from patchwork.language import tokens

# The relation is the word of the question that names it.
ROLES = ("subject_first", "subject_last", "relation", "last")


@dataclass(frozen=True)
class Questions:
    """Questions of one length with their counterparts.

    Attributes:
        fact: name of the fact of each row, (n,).
        clean: tokens, int64 (n, t); the first one starts the text.
        corrupted: the same questions about the partners' subjects.
        roles: token of each of `ROLES`, int64 (n, 4); see `ROLES`.
        right: first token of the answer, (n,).
        wrong: first token of the foil, (n,).
    """

    fact: np.ndarray
    clean: Tensor
    corrupted: Tensor
    roles: Tensor
    right: Tensor
    wrong: Tensor

    @property
    def metric(self) -> LogitDifference:
        """Log-odds of the answer against the foil at the last position, nat."""
        return LogitDifference(self.right, self.wrong)

    def take(self, rows: np.ndarray) -> "Questions":
        """Some of the questions."""
        some = torch.as_tensor(np.asarray(rows))
        parts = (self.clean, self.corrupted, self.roles, self.right, self.wrong)
        return Questions(self.fact[np.asarray(rows)], *(part[some] for part in parts))

    def where(self, facts: Iterable) -> "Questions":
        """The questions about some facts."""
        return self.take(np.flatnonzero(np.isin(self.fact, list(facts))))


def about_facts(facts: pd.DataFrame, tokenizer: Tokenizer, paraphrase: int) -> list[Questions]:
    """The questions of one held-out paraphrase, one set for each length.

    Args:
        facts: the table of facts; every partner stands in it.
        tokenizer: of the model.
        paraphrase: 0 or 1.

    Raises:
        ValueError: naming the fact whose prompt differs from its partner's in more than the
            subject or in length.
    """
    k = paraphrase
    prompts = facts.set_index("fact")[f"prompt_{k}"]
    places = (f"subject_start_{k}", f"subject_end_{k}", f"relation_{k}")
    rows = []
    for one in facts.to_dict("records"):
        start, stop, relation = (int(one[name]) for name in places)
        texts = (str(prompts[one["fact"]]), str(prompts[one["partner"]]))
        rows.append((one["fact"], texts, (start, stop, relation), one["answer"], one["foil"]))
    return list(_by_length(rows, tokenizer))


def about_names(facts: pd.DataFrame, tokenizer: Tokenizer, template: str) -> list[Questions]:
    """The copy task: a text that names the subject and must name it again.

    Args:
        facts: the table of facts.
        tokenizer: of the model.
        template: such as ``the file on {s} is named``.

    Returns:
        Questions whose answer is the subject and whose foil is the partner's; those where both
        start with the same token are left out.
    """
    subjects = facts.set_index("fact")["subject"]
    rows = []
    for one in facts.to_dict("records"):
        names = (str(one["subject"]), str(subjects[one["partner"]]))
        texts = tuple(template.format(s=name) for name in names)
        start, stop = span_of(tokenizer, texts[0], names[0])
        own, other = (row[0] for row in tokens.encode(tokenizer, names))
        if own != other:
            rows.append((one["fact"], texts, (start, stop, stop + 1), *names))
    return list(_by_length(rows, tokenizer))


def accepted(facts: pd.DataFrame, tokenizer: Tokenizer) -> dict[int, set[int]]:
    """First tokens of all right answers of each fact."""
    return {
        one["fact"]: {int(row[0]) for row in tokens.encode(tokenizer, str(one["answers"]).split())}
        for one in facts.to_dict("records")
    }


def _by_length(rows: list[tuple], tokenizer: Tokenizer) -> Iterator[Questions]:
    end = tokens.end_of(tokenizer)
    found: dict[int, list[tuple]] = {}
    for fact, texts, (start, stop, relation), answer, foil in rows:
        clean, corrupted = ([end, *ids] for ids in tokens.encode(tokenizer, texts))
        if len(clean) != len(corrupted):
            raise ValueError(
                f"fact {fact}: its prompt has {len(clean)} tokens and its partner's "
                f"{len(corrupted)}; allowed is one length"
            )
        differs = [
            i for i, pair in enumerate(zip(clean, corrupted, strict=True)) if len({*pair}) > 1
        ]
        if not differs or differs[0] < start or differs[-1] > stop:
            raise ValueError(
                f"fact {fact}: its prompt differs from its partner's at tokens {differs}; allowed "
                f"is {start} to {stop}, the subject"
            )
        right, wrong = (int(row[0]) for row in tokens.encode(tokenizer, [answer, foil]))
        last = len(clean) - 1
        row = (fact, clean, corrupted, (start, stop, min(relation, last), last), right, wrong)
        found.setdefault(len(clean), []).append(row)
    for group in found.values():
        names, *columns = zip(*group, strict=True)
        yield Questions(np.array(names), *(torch.tensor(np.array(x)) for x in columns))


def span_of(tokenizer: Tokenizer, text: str, subject: str) -> tuple[int, int]:
    """First and last token of the subject in a text, after one token that starts the text.

    Raises:
        ValueError: if the text does not hold the subject.
    """
    start = text.find(subject)
    if start < 0:
        raise ValueError(f"prompt {text!r} does not hold its subject {subject!r}")
    stop = start + len(subject)
    # A byte-level token may begin with the space before its word.
    ends = [one[1] for one in tokenizer.encode(text).offsets]
    first = next(i for i, end in enumerate(ends, 1) if end > start)
    return first, next(i for i, end in enumerate(ends, 1) if end >= stop)


def noisy(embeddings: Tensor, questions: Questions, scale: float, seed: int) -> Tensor:
    """Embeddings of the clean questions with Gaussian noise on the subject.

    Args:
        embeddings: of all tokens, (vocabulary, d).
        questions: n.
        scale: standard deviations of the subjects' embeddings; the paper's method takes 3.
        seed: of the noise.

    Returns:
        shape (n, t, d).
    """
    clean = embeddings[questions.clean]
    place = torch.arange(clean.shape[1])[None]
    subject = (place >= questions.roles[:, :1]) & (place <= questions.roles[:, 1:2])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clean.shape, generator=generator).to(clean) * clean[subject].std() * scale
    return torch.where(subject[..., None], clean + noise, clean)


def donors(questions: Questions, seed: int) -> np.ndarray:
    """Another question for each, about a subject with neither its answer nor its foil.

    Args:
        questions: n.
        seed: of the draw.

    Returns:
        Row of each donor, (n,); -1 where there is none.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    right, wrong = questions.right.numpy(), questions.wrong.numpy()
    found = np.full(len(right), -1)
    for i in range(len(right)):
        free = np.flatnonzero((right != right[i]) & (right != wrong[i]))
        if len(free):
            found[i] = rng.choice(free)
    return found
