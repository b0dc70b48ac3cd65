"""Which activations carry a fact: patching per fact over layer, role of the token and component."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from patchwork.analysis.knowledge.questions import ROLES, Questions, donors, noisy
from patchwork.interventions import PatchGrid, ablate, attribution_sweep, patch_sweep, read
from patchwork.interventions.sweeps.effects import PatchEffects
from patchwork.interventions.sweeps.grid import DIRECTIONS
from patchwork.models import sites
from patchwork.models.sites import Site

COMPONENTS = ("resid_pre", "attn_out", "mlp_out")
# Sites of the sets: patching the residual stream at every token of the subject replaces the input.
SET_COMPONENTS = ("attn_out", "mlp_out")
Place = tuple[str, int, str]


def knowledge(
    model: nn.Module,
    sets: Sequence[Sequence[Questions]],
    accepted: Mapping[int, set[int]],
    gap_min: float,
) -> pd.DataFrame:
    """What a network says of every fact, and whether tracing uses it.

    Args:
        model: a GPT-2 in eval mode.
        sets: the questions of each paraphrase.
        accepted: tokens that are right, by fact; see `questions.accepted`.
        gap_min: least difference of the log-odds between clean and corrupted question, nat.

    Returns:
        One row per fact: fact, right (share of paraphrases whose first prediction is an answer),
        clean and corrupted (log-odds, mean over paraphrases, nat), gap (clean less corrupted, nat)
        and status: `used`, or why not: `not_known`, `clean_not_above_zero`,
        `corrupted_not_below_zero`, `small_gap`.
    """
    said = pd.concat([_answers(model, part) for group in sets for part in group])
    said["right"] = [
        token in accepted[fact] for token, fact in zip(said["predicted"], said["fact"], strict=True)
    ]
    table = said.groupby("fact", sort=False)[["right", "clean", "corrupted"]].mean()
    table["gap"] = table["clean"] - table["corrupted"]
    reasons = {
        "not_known": table["right"] < 1,
        "clean_not_above_zero": table["clean"] <= 0,
        "corrupted_not_below_zero": table["corrupted"] >= 0,
        "small_gap": table["gap"] < gap_min,
    }
    table["status"] = np.select(list(reasons.values()), list(reasons), "used")
    return table.reset_index()


def _answers(model: nn.Module, questions: Questions) -> pd.DataFrame:
    rows = torch.arange(len(questions.clean))
    with torch.no_grad():
        clean, corrupted = (model(x).logits for x in (questions.clean, questions.corrupted))
    return pd.DataFrame(
        {
            "fact": questions.fact,
            "predicted": clean[:, -1].argmax(-1).numpy(),
            "clean": questions.metric(clean, rows).numpy(),
            "corrupted": questions.metric(corrupted, rows).numpy(),
        }
    )


def traces(
    model: nn.Module,
    sets: Sequence[Sequence[Questions]],
    *,
    task: str,
    both: bool = True,
) -> pd.DataFrame:
    """Effect of patching each component at each layer and role, mean over the paraphrases.

    Args:
        model: a GPT-2 in eval mode.
        sets: the questions of each paraphrase.
        task: name of the rows.
        both: whether clean states are removed from the clean run as well (necessity): a network
            that repairs itself hides what is necessary.

    Returns:
        One row per fact, component, layer, role and direction: task, direction, fact, component,
        layer, role, effect (change of the log-odds, nat; positive: towards the source).
    """
    frames = []
    for questions in (part for group in sets for part in group):
        for direction in DIRECTIONS if both else DIRECTIONS[:1]:
            effects = patch_sweep(
                model, questions.clean, questions.corrupted, questions.metric,
                grid=_grid(questions, direction),
            )  # fmt: skip
            frames.append(_by_role(effects, questions))
    return _mean(frames, task)


def controls(
    model: nn.Module,
    sets: Sequence[Sequence[Questions]],
    seed: int,
    noise: float,
) -> pd.DataFrame:
    """Effects with a wrong donor, and with noise on the subject as the corruption.

    Args:
        model: a GPT-2 in eval mode.
        sets: the questions of each paraphrase.
        seed: of donors and noise.
        noise: standard deviations of the subjects' embeddings.

    Returns:
        As for `traces`, of the tasks `wrong_donor` and `noise`, with the gap of the pair (nat)
        for noise in `gap`.
    """
    wrong, disturbed = [], []
    embeddings = cast(Any, model).get_input_embeddings().weight.detach()
    for questions in (part for group in sets for part in group):
        chosen = donors(questions, seed)
        some = questions.take(np.flatnonzero(chosen >= 0))
        if len(some.fact):
            given = questions.clean[torch.from_numpy(chosen[chosen >= 0])]
            effects = patch_sweep(
                model, given, some.corrupted, some.metric, grid=_grid(some, DIRECTIONS[0])
            )
            wrong.append(_by_role(effects, some))
        effects = patch_sweep(
            model,
            {"inputs_embeds": embeddings[questions.clean]},
            {"inputs_embeds": noisy(embeddings, questions, noise, seed)},
            questions.metric,
            grid=_grid(questions, DIRECTIONS[0]),
        )
        disturbed.append(_by_role(effects, questions))
    return pd.concat([_mean(wrong, "wrong_donor"), _mean(disturbed, "noise")], ignore_index=True)


def attribution_correlation(model: nn.Module, questions: Questions, n: int) -> dict[str, float]:
    """Correlation of attribution patching with the exact sweep on the first n questions."""
    some = questions.take(np.arange(min(n, len(questions.fact))))
    grid = _grid(some, DIRECTIONS[0])
    found = attribution_sweep(
        model, some.clean, some.corrupted, some.metric, grid=grid, check=len(some.fact)
    )
    return found.metadata["pearson_r"]


def after_the_answer(model: nn.Module, questions: Questions) -> pd.DataFrame:
    """Effects where the answer itself is what differs: the right or the wrong one is appended.

    Every state before the answer is the same in both runs, so that patching there does nothing and
    recovery is not defined; the metric is read after the answer.

    Returns:
        As for `traces`, of the task `answer_appended`, with the gap of each pair in `gap`.
    """
    clean, corrupted = (
        torch.cat([questions.clean, token[:, None]], 1)
        for token in (questions.right, questions.wrong)
    )
    grid = PatchGrid(COMPONENTS, tuple(range(clean.shape[1])))
    effects = patch_sweep(model, clean, corrupted, questions.metric, grid=grid)
    roles = questions.roles.clone()
    roles[:, -1] = clean.shape[1] - 1
    moved = Questions(questions.fact, clean, corrupted, roles, questions.right, questions.wrong)
    return _mean([_by_role(effects, moved)], "answer_appended")


def _grid(questions: Questions, direction: str) -> PatchGrid:
    positions = tuple(sorted(set(questions.roles.flatten().tolist())))
    return PatchGrid(COMPONENTS, positions, direction)


def _by_role(effects: PatchEffects, questions: Questions) -> pd.DataFrame:
    """Effects at the token that each question has in each role."""
    n = len(questions.fact)
    index = {position: i for i, position in enumerate(effects.positions)}
    where = np.vectorize(index.__getitem__)(questions.roles.numpy())  # (n, roles)
    frames = []
    for component, values in effects.values.items():
        found = values[:, where, np.arange(n)[:, None]]  # (layers, n, roles)
        names = pd.MultiIndex.from_product(
            [range(len(found)), questions.fact, ROLES], names=["layer", "fact", "role"]
        )
        frame = pd.DataFrame({"effect": found.reshape(-1).astype(float)}, index=names)
        frames.append(frame.reset_index().assign(component=component))
    whole = pd.concat(frames, ignore_index=True).assign(direction=effects.direction)
    gap = pd.Series((effects.source - effects.base).astype(float), index=questions.fact)
    return whole.assign(gap=whole["fact"].map(gap))


def _mean(frames: list[pd.DataFrame], task: str) -> pd.DataFrame:
    keys = ["direction", "fact", "component", "layer", "role"]
    if not frames:
        return pd.DataFrame(columns=["task", *keys, "effect", "gap"])
    whole = pd.concat(frames, ignore_index=True)
    return whole.groupby(keys, sort=False)[["effect", "gap"]].mean().reset_index().assign(task=task)


class Together:
    """Clean states put into the corrupted run at several places at once.

    Args:
        model: a GPT-2 in eval mode.
        sets: questions; every fact's effect is the mean over its own.
    """

    def __init__(self, model: nn.Module, sets: Iterable[Questions]) -> None:
        self.model, self.sets = model, list(sets)
        layers = range(sites.find(model).n_layers)
        chosen = [Site(name, layer) for name in SET_COMPONENTS for layer in layers]
        self.stored = [read(model, chosen, one.clean) for one in self.sets]
        self.corrupted = self._scores([])
        self.gap = self._clean() - self.corrupted

    def recovered(self, places: Sequence[Place]) -> pd.Series:
        """Change of the log-odds of each fact, nat."""
        return self._scores(places) - self.corrupted

    def _clean(self) -> pd.Series:
        return self._gather(
            [one.metric(self._run(one.clean), self._rows(one)) for one in self.sets]
        )

    def _scores(self, places: Sequence[Place]) -> pd.Series:
        values = []
        for questions, stored in zip(self.sets, self.stored, strict=True):
            if not places:
                output = self._run(questions.corrupted)
            else:
                chosen = dict.fromkeys(Site(name, layer) for name, layer, _ in places)
                edit = _edit_at_roles(questions, stored, places)
                with ablate(self.model, list(chosen), edit, expect_change=False):
                    output = self._run(questions.corrupted)
            values.append(questions.metric(output, self._rows(questions)))
        return self._gather(values)

    def _run(self, ids: Tensor) -> Any:
        with torch.no_grad():
            return self.model(ids)

    def _rows(self, questions: Questions) -> Tensor:
        return torch.arange(len(questions.fact))

    def _gather(self, values: list[Tensor]) -> pd.Series:
        parts = [
            pd.Series(value.double().numpy(), index=one.fact)
            for value, one in zip(values, self.sets, strict=True)
        ]
        whole = pd.concat(parts)
        return whole.groupby(whole.index, sort=False).mean()


def _edit_at_roles(questions: Questions, stored: Any, places: Sequence[Place]) -> Any:
    def edit(site: Site, tensor: Tensor, rows: Tensor) -> Tensor:
        for name, layer, role in places:
            if (name, layer) == (site.kind, site.layer):
                at = questions.roles[rows, ROLES.index(role)]
                tensor[torch.arange(len(rows)), at] = stored[site][rows, at]
        return tensor

    return edit


def windows(
    together: Together, n_layers: int, roles: Sequence[str], widths: Sequence[int]
) -> pd.DataFrame:
    """Effects of patching one component in several layers in a row.

    Args:
        together: of the questions.
        n_layers: of the model.
        roles: of `ROLES`.
        widths: layers of a window.

    Returns:
        One row per fact, component, first layer, role and width: effect and gap, nat.
    """
    frames = []
    for width in widths:
        for component in SET_COMPONENTS:
            for layer in range(n_layers - width + 1):
                for role in roles:
                    places = [(component, layer + i, role) for i in range(width)]
                    effect = together.recovered(places)
                    frames.append(
                        pd.DataFrame({"fact": effect.index, "effect": effect, "gap": together.gap})
                        .assign(component=component, layer=layer, role=role, width=width)
                    )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def minimal_sets(
    model: nn.Module,
    sets: Sequence[Questions],
    effects: pd.DataFrame,
    halves: pd.Series,
    *,
    share: float,
    most: int,
) -> pd.DataFrame:
    """How much the best sites restore together: chosen on half of the facts, tried on the other.

    Sites are taken in the order of their own mean effect on the choosing half.

    Args:
        model: a GPT-2 in eval mode.
        sets: questions; every fact's effect is the mean over its own.
        effects: of single sites, from `traces`; only clean states in the corrupted run count.
        halves: 0 or 1 by fact; the facts that count.
        share: of the gap that a set must restore to be enough, 0 to 1.
        most: sites that are taken, 1 or more.

    Returns:
        One row per choosing half and number of sites: half, n_sites, component, layer and role of
        the site that was added, recovered and gap (means over the trying half, nat), and enough.
        None for a half without facts.
    """
    own = effects[
        effects["component"].isin(SET_COMPONENTS)
        & effects["fact"].isin(halves.index)
        & (effects["direction"] == DIRECTIONS[0])
    ]
    half_of = own["fact"].map(halves)
    rows = []
    for half in (0, 1):
        tried = [one.where(halves.index[halves != half]) for one in sets]
        tried = [one for one in tried if len(one.fact)]
        mean = own[half_of == half].groupby(["component", "layer", "role"])["effect"].mean()
        if not tried or mean.empty:
            continue
        together = Together(model, tried)
        gap = float(together.gap.mean())
        order = _distinct(mean.sort_values(ascending=False, kind="stable"), tried)[:most]
        for n in range(1, len(order) + 1):
            recovered = float(together.recovered(order[:n]).mean())
            component, layer, role = order[n - 1]
            rows.append(
                {
                    "half": half, "n_sites": n, "component": component, "layer": int(layer),
                    "role": role, "recovered": recovered, "gap": gap,
                    "enough": recovered >= share * gap,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _distinct(mean: pd.Series, sets: Sequence[Questions]) -> list[Place]:
    """Places in order, those that are the same token in every question only once."""
    same = {
        (ROLES[i], ROLES[j])
        for i in range(len(ROLES))
        for j in range(len(ROLES))
        if i < j and all(bool((one.roles[:, i] == one.roles[:, j]).all()) for one in sets)
    }
    kept: list[Place] = []
    for name, layer, role in cast(Any, mean.index):
        twins = {a if b == role else b for a, b in same if role in (a, b)}
        if not any((name, layer, twin) in kept for twin in twins):
            kept.append((name, layer, role))
    return kept
