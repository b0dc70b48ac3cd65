"""Findings and tables of traced and edited networks, over their seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchwork import tables
from patchwork.analysis.knowledge import measures, power
from patchwork.statistics import (
    Interval,
    binomial_ends,
    exact,
    fisher_z,
    interval,
    intervals_of,
    ratio_interval,
    share_intervals,
)
from patchwork.statistics.intervals import unknown
from patchwork.statistics.power import Planted, mean_found

KINDS = ("definitional", "associative")
FORWARD = "clean_to_corrupted"
FACT = ("seed", "fact")
# What B1 of the study calls the first feed-forward layer, at the last token of the subject.
FIRST = {"component": "mlp_out", "layer": 0, "role": "subject_last", "width": 1}


@dataclass(frozen=True)
class Settings:
    """How traced networks are compared.

    Attributes:
        reference: protocol whose networks know the facts.
        shuffled: protocol of networks trained on the same words with the facts shuffled.
        layers: layer that alone could learn the facts, by protocol.
        n_permutations: of each permutation test.
        controls: effect that a positive control plants, by quantity.
        n_draws: planted effects of each positive control.
        gap_bins: bins in which the gaps of both kinds are made equal.
        seed: of permutations, draws and splits.
    """

    reference: str
    shuffled: str
    layers: Mapping[str, int]
    controls: Mapping[str, Planted]
    n_permutations: int
    n_draws: int
    gap_bins: int
    seed: int


def summarise(gathered: Mapping[str, pd.DataFrame], settings: Settings) -> dict[str, pd.DataFrame]:
    """Everything that is said of the networks of a study.

    Args:
        gathered: tables of all runs by name, with the columns of ``tables.RUN``: those of
            `network.trace`, and `edits` and `moments` of those that were edited.
        settings: see `Settings`.

    Returns:
        knowledge_shares, recoveries, set_curves, knowledge_contrasts, edit_scores,
        released_recoveries and findings.
    """
    facts = gathered["traced_facts"]
    found: list[pd.DataFrame] = []
    recoveries, contrasts, curves, published = [], [], [], []
    for names, own in tables.groups(facts, tables.CONDITION):
        parts = {name: _of(table, names) for name, table in gathered.items()}
        network = _Network(own.reset_index(drop=True), parts, settings)
        rows = dict(network.findings())
        if names["protocol"] == settings.reference:
            other = {**names, "protocol": settings.shuffled}
            rows |= network.above_shuffled(_of(gathered["traces"], other))
        found.append(_rows(rows, names))
        recoveries.append(_labelled(network.recoveries(), names))
        contrasts.append(_labelled(network.contrasts(), names))
        curves.append(_labelled(network.curves(), names))
        published.append(_labelled(network.released(), names))
    edits = gathered.get("edits", pd.DataFrame())
    scores = [
        _labelled(edit_scores(part, _of(gathered["traces"], names)), names)
        for names, part in (tables.groups(edits, tables.CONDITION) if len(edits) else ())
    ]
    return {
        "knowledge_shares": knowledge_shares(facts),
        "recoveries": tables.join(recoveries),
        "set_curves": tables.join(curves),
        "knowledge_contrasts": tables.join(contrasts),
        "edit_scores": tables.join(scores),
        "released_recoveries": tables.join(published),
        "findings": tables.join(found),
    }


def _of(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The rows of one condition."""
    if table.empty:
        return table
    own = (table[list(names)] == pd.Series(dict(names))).all(axis=1)
    return table[own].reset_index(drop=True)


def _labelled(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The frame with the names of its condition; nothing where there are no rows."""
    return tables.labelled(frame, names) if len(frame) else pd.DataFrame()


def _rows(found: Mapping[str, Interval], names: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame([{"quantity": name, **names, **one.row()} for name, one in found.items()])


def knowledge_shares(facts: pd.DataFrame) -> pd.DataFrame:
    """Share of facts in each state of knowledge, by condition, task and kind."""
    keys = [*tables.CONDITION, "task", "kind"]
    rows = []
    for names, part in tables.groups(facts, keys):
        known = share_intervals((part["right"] == 1).to_numpy(float), part["seed"].to_numpy())[0]
        rows.append({**names, "status": "known", **known.row()})
        for status, count in part["status"].value_counts().items():
            share = exact(count / len(part), len(part), part["seed"].nunique())
            rows.append({**names, "status": status, **share.row()})
    return pd.DataFrame(rows)


class _Network:
    """The networks of one condition, over their seeds."""

    def __init__(
        self, facts: pd.DataFrame, parts: Mapping[str, pd.DataFrame], settings: Settings
    ) -> None:
        self.settings, self.parts = settings, parts
        self.facts = facts[facts["task"] == "fact"].reset_index(drop=True)
        self.copied = facts[facts["task"] == "copy"].reset_index(drop=True)
        self.used = self.facts[self.facts["status"] == "used"]
        self.traces = parts["traces"]
        self.seeds = facts["seed"].nunique()

    def findings(self) -> Iterator[tuple[str, Interval]]:
        """Quantity and interval."""
        right = (self.copied["right"] == 1).to_numpy(float)
        yield "copied_share", share_intervals(right, self.copied["seed"].to_numpy())[0]
        used = (self.facts["status"] == "used").to_numpy(float)
        yield "used_share", share_intervals(used, self.facts["seed"].to_numpy())[0]
        yield from self._first_layer()
        yield from self._log_odds()
        yield from self._sets()
        yield from self._layers()
        yield from self._released()
        yield from self._planted()
        if len(self.parts.get("edits", ())):
            yield from self._edits()

    def effects(self, task: str, known: pd.DataFrame, **where: Any) -> pd.DataFrame:
        """Effects of one task on facts that are used: seed, fact, effect and gap."""
        own = self.traces[self.traces["task"] == task]
        for column, value in {"direction": FORWARD, **where}.items():
            own = own[own[column] == value]
        return own.merge(known[[*FACT, "kind"]], on=list(FACT))

    def _first_layer(self) -> Iterator[tuple[str, Interval]]:
        own = self.effects("fact", self.used, **FIRST)
        effect, gap, seeds = (own[name].to_numpy() for name in ("effect", "gap", "seed"))
        yield "first_mlp_recovery", measures.recovery(effect, gap, seeds)
        if planted := self.settings.controls.get("first_mlp_recovery"):
            found = power.recovery(effect, gap, seeds, planted, self.settings)
            yield "first_mlp_recovery_found", found
        copied = self.copied[self.copied["status"] == "used"]
        both = own.merge(
            self.effects("copy", copied, **FIRST), on=list(FACT), suffixes=("", "_copy")
        )
        copy_columns = ("effect", "effect_copy", "gap", "seed", "gap_copy")
        yield (
            "first_mlp_above_copy",
            measures.recovery_difference(*(both[name].to_numpy() for name in copy_columns)),
        )
        wrong = own.merge(
            self.effects("wrong_donor", self.used, **FIRST), on=list(FACT), suffixes=("", "_wrong")
        )
        columns = ("effect", "effect_wrong", "gap", "seed")
        yield (
            "first_mlp_above_wrong_donor",
            measures.recovery_difference(*(wrong[name].to_numpy() for name in columns)),
        )
        appended = self.effects("answer_appended", self.used, **{**FIRST, "role": "last"})
        effect, gap, seeds = (appended[name].to_numpy() for name in ("effect", "gap", "seed"))
        yield "first_mlp_recovery_after_answer", measures.recovery(effect, gap, seeds)

    def above_shuffled(self, traces: pd.DataFrame) -> dict[str, Interval]:
        """Recovery at the first MLP above the effect on the same facts where they were shuffled.

        The other networks have no gap of their own, so their effect is taken as a share of that of
        these networks.
        """
        own = self.effects("fact", self.used, **FIRST)
        other = traces[(traces["task"] == "fact") & (traces["direction"] == FORWARD)]
        for column, value in FIRST.items():
            other = other[other[column] == value]
        both = own.merge(other[[*FACT, "effect"]], on=list(FACT), suffixes=("", "_shuffled"))
        columns = ("effect", "effect_shuffled", "gap", "seed")
        found = measures.recovery_difference(*(both[name].to_numpy() for name in columns))
        return {"first_mlp_above_shuffled": found}

    def _log_odds(self) -> Iterator[tuple[str, Interval]]:
        known = self.facts[self.facts["right"] == 1]
        for name in ("clean", "full"):
            apart = measures.paired_levels(known, "kind", KINDS, name)
            quantity = f"{name}_log_odds_definitional_minus_associative"
            yield quantity, _mean(apart)
            if planted := self.settings.controls.get(quantity):
                size, claimed = planted.effect, planted.claimed
                yield "clean_log_odds_found", mean_found(apart, size, claimed, self.settings.seed)
        # Seeds 2 k and 2 k + 1 share the answers and swap the kinds.
        table = known.pivot_table(index="seed", columns="kind", values="clean")
        if set(KINDS) <= set(table.columns):
            swapped = (table[KINDS[0]] - table[KINDS[1]]).dropna()
            sign = np.where(np.asarray(swapped.index) % 2 == 0, 1.0, -1.0)
            yield "clean_log_odds_first_minus_second_answers", _mean(sign * swapped.to_numpy())

    def set_sizes(self, task: str = "fact") -> pd.DataFrame:
        """Localisation index by seed, factor and level."""
        own = self.parts["minimal_sets"]
        own = own[own["task"] == task] if len(own) else own
        rows = [
            {**names, "n_sites": measures.localisation_index(part)}
            for names, part in (tables.groups(own, ("seed", "factor", "level")) if len(own) else ())
        ]
        return pd.DataFrame(rows, columns=["seed", "factor", "level", "n_sites"])

    def _sets(self) -> Iterator[tuple[str, Interval]]:
        for task, prefix in (("fact", "minimal_set"), ("copy", "copy_minimal_set")):
            sizes = self.set_sizes(task)
            kinds = sizes[sizes["factor"] == "kind"].pivot_table(
                index="seed", columns="level", values="n_sites"
            )
            if not set(KINDS) <= set(kinds.columns):
                continue
            first, second = (kinds.dropna()[kind].to_numpy() for kind in KINDS)
            yield f"{prefix}_associative_minus_definitional", _mean(second - first)
            if len(first):
                yield f"{prefix}_ratio", ratio_interval(first, second)
            if task == "fact":
                for kind, values in zip(KINDS, (first, second), strict=True):
                    yield f"{prefix}_{kind}", _mean(values)
                if planted := self.settings.controls.get(f"{prefix}_ratio"):
                    found = power.ratio(first, second, planted, self.settings)
                    yield f"{prefix}_ratio_found", found
        for kind in KINDS:
            yield f"participation_ratio_{kind}", _mean(self._participation(kind))

    def _participation(self, kind: str) -> np.ndarray:
        """Participation ratio of each seed, both kinds with equal gaps."""
        found = []
        for _, part in self.used.groupby("seed"):
            rows = measures.equal_gaps(
                part["gap"].to_numpy(), part["kind"].to_numpy(),
                self.settings.gap_bins, self.settings.seed,
            )  # fmt: skip
            some = part.iloc[rows]
            grid = self._grid(some[some["kind"] == kind])
            if len(grid):
                found.append(
                    measures.participation_ratio(grid.reshape(len(grid), -1), self.settings.seed)
                )
        return np.array(found)

    def _grid(self, known: pd.DataFrame, task: str = "fact") -> np.ndarray:
        """Effects (facts, layers, sites) of attention and MLPs: the residual stream is left out."""
        own = self.effects(task, known, width=1)
        own = own[own["component"] != "resid_pre"]
        if own.empty:
            return np.empty((0, 0, 0))
        table = own.pivot_table(
            index=list(FACT), columns=["layer", "component", "role"], values="effect"
        ).dropna()
        layers = own["layer"].nunique()
        return table.to_numpy().reshape(len(table), layers, -1)

    def _layers(self) -> Iterator[tuple[str, Interval]]:
        right, wrong = self._grid(self.used), self._grid(self.used, "wrong_donor")
        known = self.used
        n, options = (
            self.settings.n_permutations,
            (self.settings.n_permutations, self.settings.seed),
        )
        if not len(right):
            return
        for name, grid in (("layer_effects_p", right), ("wrong_donor_layer_effects_p", wrong)):
            if len(grid):
                _, exceeded = measures.layer_p(grid, *options)
                yield name, measures.p_interval(exceeded, n, len(grid), self.seeds)
        if len(wrong) == len(right):
            _, exceeded = measures.layer_p(right - wrong, *options)
            yield (
                "layer_effects_above_wrong_donor_p",
                measures.p_interval(exceeded, n, len(right), self.seeds),
            )
        if planted := self.settings.controls.get("layer_effects_p"):
            gap = float(known["gap"].mean())
            yield "layer_effects_found", power.layers(right, gap, planted, self.settings)

    def _released(self) -> Iterator[tuple[str, Interval]]:
        own = self.parts["released"]
        for variant, part in own.groupby("variant"):
            modules = part.groupby("seed")["module"].nunique()
            yield f"released_{variant}_names", exact(float(modules.mean()), len(part), self.seeds)
            head = part[part["module"].str.startswith("Linear")]
            yield f"released_{variant}_head_recovery", _mean(head["recovery"].to_numpy())
            rest = part[~part["module"].str.startswith("Linear")]
            if len(rest):
                per_seed = rest.groupby("seed")["recovery"].mean().to_numpy()
                yield f"released_{variant}_recovery", _mean(per_seed)
        for name, part in self.parts["attribution"].groupby("component"):
            yield f"attribution_{name}_correlation", _mean(part["r"].to_numpy())

    def _planted(self) -> Iterator[tuple[str, Interval]]:
        protocol = self.facts["protocol"].iloc[0]
        if protocol not in self.settings.layers:
            return
        layer = self.settings.layers[protocol]
        mlps = self.effects("fact", self.used, component="mlp_out", width=1)
        sets = self.parts["minimal_sets"]
        named = {"tracing": mlps.groupby("seed")[list(mlps.columns)].apply(measures.best_layer)}
        if len(sets):
            kinds = sets[(sets["task"] == "fact") & (sets["factor"] == "kind")]
            # Both kinds of facts must name the layer.
            own = kinds.groupby(["seed", "level"])[list(kinds.columns)].apply(measures.named_layer)
            named["sets"] = own.groupby("seed").agg(lambda x: x.iloc[0] if x.nunique() == 1 else -1)
        edits = self.parts.get("edits", pd.DataFrame())
        if len(edits):
            rome = edits[edits["method"] == "rome_mean"]
            named["editing"] = (
                rome.groupby(["seed", "layer"])["efficacy_margin"].mean().unstack().idxmax(axis=1)
            )
        for name, found in named.items():
            if len(found):
                hits = int((np.asarray(found) == layer).sum())
                ends = binomial_ends(hits, len(found))
                yield (
                    f"planted_layer_named_by_{name}",
                    Interval(
                        hits / len(found), ends["ci_low"], ends["ci_high"], ends["ci90_low"],
                        ends["ci90_high"], len(found), self.seeds,
                    ),
                )  # fmt: skip

    def _edits(self) -> Iterator[tuple[str, Interval]]:
        edits = self.parts["edits"]
        rome = edits[edits["method"] == "rome_mean"]
        # Of the layer with the most, which is no fair estimate of it, but tells whether any works.
        best = rome[rome["layer"] == rome.groupby("layer")["efficacy"].mean().idxmax()]
        yield (
            "rome_mean_efficacy_best_layer",
            share_intervals(best["efficacy"].to_numpy(float), best["seed"].to_numpy())[0],
        )
        for method, measure in (
            (method, measure)
            for method in ("rome_mean", "random")
            for measure in ("efficacy", "specificity")
        ):
            own = edits[edits["method"] == method].dropna(subset=[f"{measure}_margin"])
            wide = own.pivot_table(
                index=[*FACT, "kind"], columns="layer", values=f"{measure}_margin"
            ).dropna()
            if wide.empty:
                continue
            labels = wide.reset_index()
            group = (labels["kind"] == KINDS[0]).to_numpy()
            seeds, scores = labels["seed"].to_numpy(), wide.to_numpy()
            n = self.settings.n_permutations
            _, exceeded = measures.interaction_p(scores, group, seeds, n, self.settings.seed)
            name = f"{method}_kind_by_layer_{measure}"
            yield f"{name}_p", measures.p_interval(exceeded, n, len(scores), self.seeds)
            if planted := self.settings.controls.get(f"{name}_p"):
                found = power.interaction(scores, group, seeds, planted, self.settings)
                yield f"{name}_found", found
        layers = edit_scores(edits, self.traces)
        pairs = layers[layers["method"] == "rome_mean"].dropna(subset=["tracing_effect"])
        pairs = pairs[pairs["kind"] == "all"]
        if pairs["layer"].nunique() > 2:
            seed = pairs["seed"].to_numpy()
            effect, margin = (
                pairs[name].to_numpy() for name in ("tracing_effect", "efficacy_margin")
            )
            z = intervals_of(fisher_z(effect, margin, seed), seed)[0]
            yield "tracing_edit_correlation", z.mapped(np.tanh)

    def recoveries(self) -> pd.DataFrame:
        """Recovery at every place, by task, kind and direction."""
        copied = self.copied[self.copied["status"] == "used"]
        gaps = self.used[[*FACT, "gap"]]
        rows = []
        for task, own in self.traces.groupby("task", sort=False):
            known = copied if task == "copy" else self.used
            some = own.merge(known[[*FACT, "kind"]], on=list(FACT))
            if task == "wrong_donor":
                some = some.drop(columns="gap").merge(gaps, on=list(FACT))
            for kind in ("all", *(KINDS if task in ("fact", "copy") else ())):
                part = some if kind == "all" else some[some["kind"] == kind]
                keys = ["direction", "component", "layer", "role", "width"]
                for names, cell in tables.groups(part, keys):
                    arrays = (cell[name].to_numpy() for name in ("effect", "gap", "seed"))
                    found = measures.recovery(*arrays)
                    rows.append({"task": task, "kind": kind, **names, **found.row()})
        return pd.DataFrame(rows)

    def curves(self) -> pd.DataFrame:
        """Share of the gap that the best sites restore together, by task, factor and level."""
        own = self.parts["minimal_sets"]
        if own.empty:
            return own
        own = own.assign(recovery=measures.PERCENT * own["recovered"] / own["gap"])
        keys = ["task", "factor", "level", "n_sites"]
        rows = []
        for names, part in tables.groups(own, keys):
            per_seed = part.groupby("seed")["recovery"].mean().to_numpy()
            rows.append({**names, **_mean(per_seed).row()})
        return pd.DataFrame(rows)

    def released(self) -> pd.DataFrame:
        """Recovery of the released procedure by variant and name of modules, over seeds."""
        keys = ["variant", "module", "n_modules"]
        return pd.DataFrame(
            [
                {**names, **_mean(part["recovery"].to_numpy()).row()}
                for names, part in tables.groups(self.parts["released"], keys)
            ]
        )

    def contrasts(self) -> pd.DataFrame:
        """Differences between the levels of each crossed factor, paired within seeds."""
        known = self.facts[self.facts["right"] == 1]
        own = self.effects("fact", self.used, **FIRST).merge(
            self.used[[*FACT, "determinism", "fan", "exposures"]], on=list(FACT)
        )
        sizes = self.set_sizes()
        rows = []
        for factor in ("kind", "determinism", "fan", "exposures"):
            levels = sorted(self.facts[factor].unique(), reverse=True)
            if len(levels) != 2:
                continue
            shares = [
                {**names, "value": measures.PERCENT * part["effect"].mean() / part["gap"].mean()}
                for names, part in tables.groups(own, ("seed", factor))
            ]
            recovered = pd.DataFrame(shares, columns=["seed", factor, "value"])
            some = sizes[sizes["factor"] == factor].rename(columns={"n_sites": "value"})
            text = [str(level) for level in levels]
            apart = {
                "clean_log_odds": measures.paired_levels(known, factor, levels, "clean"),
                "first_mlp_recovery": measures.paired_levels(recovered, factor, levels, "value"),
                "minimal_set": measures.paired_levels(some, "level", text, "value"),
            }
            for measure, values in apart.items():
                names = {"factor": factor, "high": text[0], "low": text[1], "measure": measure}
                rows.append({**names, **_mean(values).row()})
        return pd.DataFrame(rows)


def edit_scores(edits: pd.DataFrame, traces: pd.DataFrame) -> pd.DataFrame:
    """Mean scores of edits per seed, method, layer and kind, beside the tracing effect there.

    The tracing effect is that of the MLP at the last subject token on all traced facts of the seed.
    """
    measured = [name for name in edits.columns if name.startswith(("efficacy", "paraphrase",
                "specificity", "perplexity"))]  # fmt: skip
    both = pd.concat([edits, edits.assign(kind="all")], ignore_index=True)
    keys = ["seed", "method", "layer", "kind"]
    scores = both.groupby(keys, sort=False)[measured].mean().reset_index()
    scores["n"] = both.groupby(keys, sort=False).size().to_numpy()
    own = traces[(traces["task"] == "fact") & (traces["direction"] == FORWARD)]
    own = own[(own["component"] == "mlp_out") & (own["role"] == "subject_last")]
    own = own[own["width"] == 1]
    effect = own.groupby(["seed", "layer"])["effect"].mean().rename("tracing_effect").reset_index()
    return scores.merge(effect, on=["seed", "layer"], how="left")


def _mean(values: Sequence[float] | np.ndarray) -> Interval:
    """Interval of the mean of one number per seed; those that are nan are left out."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    return interval(known) if len(known) else unknown(0, 0)
