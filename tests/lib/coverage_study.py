"""How often intervals hold the truth and how wide they are, by simulation of known truths.

`make coverage-study` runs all of it and writes docs/coverage.md; `test_statistics_coverage.py` runs
a small part. Every setting has a generator of its own, so any part can run alone.
"""

import itertools
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from patchwork import statistics
from patchwork.statistics import influence
from patchwork.statistics.sampling import SamplingError, sampling_error
from scipy import stats

RATIOS = (0.0, 0.05, 0.3, 1.0)
SEEDS = (3, 5, 10)
IMAGES = (200, 20)
LEVELS = {0.95: ("low", "high"), 0.90: ("low90", "high90")}
# Bounds of coverage: the lower ones 1 % below the level, the upper ones for 3 seeds whose share of
# the error is about that of the images.
BOUNDS = {0.95: (0.94, 0.985), 0.90: (0.89, 0.965)}
NORMAL, SKEWED = "normal", "skewed"
NEW = "two t variables"

Labels = tuple[np.ndarray, np.ndarray | None]
Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """Standard deviations of seeds, images and residual, and the numbers of seeds and images."""

    kind: str
    k: int
    n: int = 60
    seed: float = 0.1
    image: float = 0.5
    residual: float = 1.0

    def generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(zlib.crc32(repr(self).encode())))

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Seed and image of each row, all crossed."""
        return np.repeat(np.arange(self.k), self.n), np.tile(np.arange(self.n), self.k)

    def values(self, seeds: np.ndarray, images: np.ndarray, trials: int) -> np.ndarray:
        """Sums of the effects, one column per trial."""
        rng = self.generator()

        def effects(codes: np.ndarray, sd: float, skewed: bool = False) -> np.ndarray:
            if sd == 0:
                return np.zeros((1, trials))
            shape = codes.max() + 1, trials
            drawn = rng.standard_exponential(shape) - 1 if skewed else rng.standard_normal(shape)
            return sd * drawn[codes]

        skewed = self.kind == SKEWED
        found = effects(seeds, self.seed) + effects(images, self.image, skewed)
        found = found + effects(np.arange(len(seeds)), self.residual, skewed)
        return np.broadcast_to(found, (len(seeds), trials))


def score(setting: Setting, method: str, level: float, ends: Ends, truth: float, sd: float) -> dict:
    """Coverage, and width over that of the interval with the standard deviation known."""
    low, high = ends
    # Ends that differ from the truth by rounding alone hold it.
    bounded = np.isfinite(high - low)
    slack = 1e-9 * (np.abs(truth) + np.where(bounded, high - low, 0.0))
    ideal = 2 * stats.norm.ppf((1 + level) / 2) * sd
    return {
        **vars(setting),
        "method": method,
        "level": level,
        "coverage": float(((low - slack <= truth) & (truth <= high + slack)).mean()),
        "width": float(np.mean((high - low)[bounded]) / ideal),
        "trials": len(low),
    }


def scores(setting: Setting, found: list[object], truth: float) -> Iterator[dict]:
    """Rows of one interval per trial; the standard deviation is that of their estimates."""
    table = pd.DataFrame([vars(one) for one in found])
    # Without ends, no value is excluded.
    table = table.fillna({"low": -np.inf, "low90": -np.inf, "high": np.inf, "high90": np.inf})
    sd = float(table["estimate"].std())
    for level, (low, high) in LEVELS.items():
        yield score(setting, NEW, level, (table[low], table[high]), truth, sd)


def means_of(setting: Setting, trials: int, rivals: bool = False) -> Iterator[dict]:
    """Means of crossed effects; their truth is 0."""
    labels = setting.labels()
    values = setting.values(*labels, trials)
    estimate = values.mean(0)
    k, n = setting.k, setting.n
    variance = setting.seed**2 / k + setting.image**2 / n + setting.residual**2 / (k * n)
    error = sampling_error(values - estimate, *labels)
    squares = mean_squares(values.T.reshape(trials, k, n)) if rivals else None
    for level in LEVELS:
        halves = {NEW: error.half_width(level)}
        halves |= others(*squares, k, n, level) if squares else {}
        for method, half in halves.items():
            ends = estimate - half, estimate + half
            yield score(setting, method, level, ends, 0.0, float(np.sqrt(variance)))


def mean_squares(y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean squares of seeds, images and residual, and squares of all cells, each over cells."""
    _, k, n = y.shape
    apart = y - y.mean((1, 2), keepdims=True)
    seed, image = apart.mean(2, keepdims=True), apart.mean(1, keepdims=True)
    residual = ((apart - seed - image) ** 2).sum((1, 2)) / ((k - 1) * (n - 1))
    return (
        (seed**2).sum((1, 2)) / (k * (k - 1)),
        (image**2).sum((1, 2)) / (n * (n - 1)),
        residual / (k * n),
        (apart**2).sum((1, 2)) / (k * n) ** 2,
    )


def others(
    a: np.ndarray, b: np.ndarray, e: np.ndarray, cell: np.ndarray, k: int, n: int, level: float
) -> dict[str, np.ndarray]:
    """Half widths of other estimators, from the mean squares over the number of cells."""
    upper, free = (1 + level) / 2, (k - 1) * (n - 1)
    one_seed, one_image = stats.t.ppf(upper, k - 1), stats.t.ppf(upper, n - 1)

    def satterthwaite(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = np.where(a + b > e, a + b - e, a)
        squares = a**2 / (k - 1) + b**2 / (n - 1) + e**2 / free
        df = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)
        return stats.t.ppf(upper, np.maximum(df, 1)) * np.sqrt(total)

    floored = satterthwaite(np.maximum(a, e), np.maximum(b, e))
    rest = np.maximum(b - e, 0)
    drawn = a * (k - 1) / k + b * (n - 1) / n + e * free / (k * n)
    with np.errstate(invalid="ignore"):
        cochran = np.nan_to_num((one_seed * a + one_image * rest) / np.sqrt(a + rest))
    return {
        "two terms, Cochran-Cox quantile": cochran,
        "Satterthwaite, mean squares": satterthwaite(a, b),
        "Satterthwaite, components >= 0 (as REML)": floored,
        "two-way cluster-robust, t of seeds - 1": (
            stats.t.ppf(upper, min(k, n) - 1) * np.sqrt(np.maximum(a + b - cell, 0))
        ),
        "pigeonhole bootstrap x k / (k - 1), t of seeds - 1": one_seed
        * np.sqrt(drawn * k / (k - 1)),
        "t over seeds": one_seed * np.sqrt(a),
    }


def shares_of(setting: Setting, chance: float, trials: int) -> Iterator[dict]:
    """Shares of effects above a border that they pass with this chance."""
    labels = setting.labels()
    sd = np.sqrt(setting.seed**2 + setting.image**2 + setting.residual**2)
    above = setting.values(*labels, trials) > sd * stats.norm.isf(chance)
    found = statistics.share_intervals(above.astype(float), *labels)
    for row in scores(setting, found, chance):
        yield {**row, "kind": f"share {chance:g}"}


def correlations_of(setting: Setting, trials: int) -> Iterator[dict]:
    """Mean over seeds of Fisher's z; the seeds' slopes differ, the images' noise is shared."""
    rng, (seeds, images) = setting.generator(), setting.labels()
    k, n = setting.k, setting.n
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    slopes, noise = 1 + setting.seed * nodes, np.hypot(setting.image, setting.residual)
    truth = float(np.arctanh(slopes / np.hypot(slopes, noise)) @ weights / weights.sum())
    parts = []
    for _ in range(trials):
        x, shared = rng.standard_normal((2, n))
        slope, own = 1 + setting.seed * rng.standard_normal((k, 1)), rng.standard_normal((k, n))
        y = slope * x + setting.image * shared + setting.residual * own
        parts.append(influence.fisher_z(np.tile(x, k), y.reshape(-1), seeds))
    yield from scores(setting, statistics.intervals_of(joined(parts), seeds, images), truth)


def joined(parts: list[influence.Estimates]) -> influence.Estimates:
    """Estimates of many trials as one, so that their errors are found at once."""
    return influence.Estimates(
        np.concatenate([one.value for one in parts]),
        np.concatenate([one.influence for one in parts], axis=1),
    )


def _own_images(setting: Setting) -> Labels:
    return setting.labels()[0], None


def _missing(setting: Setting) -> Labels:
    seeds, images = setting.labels()
    kept = setting.generator().random(len(seeds)) < 0.7
    return seeds[kept], images[kept]


def _several_rows(setting: Setting) -> Labels:
    seeds, images = setting.labels()
    return np.repeat(seeds, 4), np.repeat(images, 4)


def _one_seed(setting: Setting) -> Labels:
    return np.zeros(setting.n, int), np.arange(setting.n)


def _unequal(setting: Setting) -> Labels:
    sizes = setting.n * (1 + np.arange(setting.k) % 3) // 2
    return np.repeat(np.arange(setting.k), sizes), None


DESIGNS: dict[str, Callable[[Setting], Labels]] = {
    "seeds with images of their own": _own_images,
    "3 in 10 cells missing": _missing,
    "4 rows a cell": _several_rows,
    "one seed": _one_seed,
    "own images, in unequal numbers": _unequal,
}


def design_of(name: str, k: int, trials: int) -> Iterator[dict]:
    """Means of designs other than the full table of seeds and images."""
    # One seed's own effect is part of what is estimated there.
    setting = Setting(name, k, seed=0.0 if name == "one seed" else 0.1)
    seeds, images = DESIGNS[name](setting)
    drawn = np.arange(len(seeds)) if images is None else images
    values = setting.values(seeds, drawn, trials)
    found = statistics.intervals_of(influence.means(values), seeds, images)
    yield from scores(setting, found, 0.0)


def groups_of(k: int, trials: int) -> Iterator[dict]:
    """Difference between 12 of 120 images and the others."""
    setting = Setting("12 images against 108", k, n=120)
    seeds, images = setting.labels()
    values, few = setting.values(seeds, images, trials), images < 12

    def difference(means: np.ndarray) -> np.ndarray:
        return means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]

    parts = [
        influence.of_means(np.stack([y * few, few, y * ~few, ~few], axis=1), difference)
        for y in values.T
    ]
    yield from scores(setting, statistics.intervals_of(joined(parts), seeds, images), 0.0)


def ratios_of(k: int, trials: int) -> Iterator[dict]:
    """Ratio of two means, of which the lower is about four standard errors from zero."""
    setting = Setting("ratio of means", k, seed=0.2)
    labels = setting.labels()
    bottom = setting.values(*labels, trials)
    top = 0.5 + 0.5 * bottom + setting.generator().standard_normal(bottom.shape)
    found = [
        statistics.ratio_interval(*pair, *labels)
        for pair in zip(top.T, (1.0 + bottom).T, strict=True)
    ]
    yield from scores(setting, found, 0.5)


def ranks_of(k: int, trials: int) -> Iterator[dict]:
    """Rank correlation of eight colours' mean errors with a predictor."""
    setting = Setting("rank correlation of 8 means", k, n=160, seed=0.05)
    seeds, images = setting.labels()
    colours, true = images % 8, np.array([0.0, 0.5, 0.3, 1.2, 0.8, 1.4, 1.0, 1.6])
    mask = colours[:, None] == np.arange(8)
    fixed = (np.arange(8) - 3.5) / np.arange(8).std()

    def correlation(means: np.ndarray) -> np.ndarray:
        ranks = stats.rankdata(means[..., :8] / means[..., 8:], axis=-1)
        return ((ranks - 4.5) * fixed).mean(-1) / ranks.std(-1)

    truth = float(correlation(np.concatenate([true, np.ones(8)])))
    parts = [
        influence.of_rough_means(
            np.concatenate([mask * (true[colours] + y)[:, None], mask], axis=1),
            correlation, seeds, images,
        )
        for y in setting.values(seeds, images, trials).T
    ]  # fmt: skip
    yield from scores(setting, statistics.intervals_of(joined(parts), seeds, images), truth)


def grid(kind: str, k: int, n: int) -> list[Setting]:
    """Every combination of standard deviations; of those that differ in unit only, the largest."""
    found: dict[tuple[float, ...], Setting] = {}
    for sds in itertools.product(RATIOS, repeat=3):
        if any(sds):
            found[tuple(round(sd / max(sds), 6) for sd in sds)] = Setting(kind, k, n, *sds)
    return list(found.values())


def everything(trials: int) -> pd.DataFrame:
    """The whole study, in about ten minutes of one core with 1,000 trials."""
    rows: list[dict] = []
    for k in SEEDS:
        for n in IMAGES:
            for setting in grid(NORMAL, k, n):
                rows += means_of(setting, trials, rivals=True)
        for setting in grid(SKEWED, k, IMAGES[0]):
            rows += means_of(setting, trials)
        for seed, image, chance in itertools.product(RATIOS, (0, 1), (0.5, 0.1, 0.02)):
            rows += shares_of(Setting("share", k, IMAGES[0], seed, image), chance, trials)
        for sds in itertools.product((0, 0.05, 0.3), RATIOS, (0.3, 1)):
            rows += correlations_of(Setting("correlation", k, IMAGES[0], *sds), trials)
        for name in DESIGNS:
            rows += design_of(name, k, trials)
        rows += [*groups_of(k, trials), *ratios_of(k, trials), *ranks_of(k, trials // 3)]
        print(f"{k} seeds: done", flush=True)
    return pd.DataFrame(rows)


def outside(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the chosen estimator whose coverage lies outside its bounds by more than chance.

    Shares of rare events with seeds that differ as much as single examples do are left out: a few
    draws from so skewed a distribution of rates tell no method enough.
    """
    chosen = table[table["method"] == NEW]
    rare = chosen["kind"].str.startswith("share") & (chosen["kind"] != "share 0.5")
    chosen = chosen[~(rare & (chosen["seed"] == 1))]
    least, most = (chosen["level"].map(lambda x, i=i: BOUNDS[x][i]) for i in (0, 1))
    # One false alarm in about 1,000 studies.
    low = stats.binom.ppf(1e-6, chosen["trials"], least) / chosen["trials"]
    high = stats.binom.ppf(1 - 1e-6, chosen["trials"], most) / chosen["trials"]
    return chosen[(chosen["coverage"] < low) | (chosen["coverage"] > high)]


def summary(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Least, median and greatest coverage, and widths, over settings."""
    groups = table.groupby(keys, sort=False)
    return groups.agg(
        settings=("coverage", "size"),
        least=("coverage", "min"),
        median=("coverage", "median"),
        greatest=("coverage", "max"),
        narrowest=("width", "min"),
        mean_width=("width", "mean"),
        widest=("width", "max"),
    ).reset_index()


def false_alarms(
    seeds: tuple[int, ...] = SEEDS, levels: tuple[float, ...] = (0.05, 0.01, 1e-3, 1e-4)
) -> pd.DataFrame:
    """Error rates of tests over their level where seeds and images both count, by integration.

    The variance of images is known; that of seeds has k - 1 degrees of freedom and a share of the
    sum from 1 in 10,000 to nearly all. The greatest ratio over shares is shown.
    """
    at = np.arange(-8.2, 8.2, 0.005)
    weight, chance = stats.norm.pdf(at) * 0.005, stats.norm.cdf(at)
    rows = []
    for k, level in itertools.product(seeds, levels):
        found: dict[str, list[float]] = {NEW: [], "Satterthwaite": []}
        for share in [*np.geomspace(1e-4, 0.5, 16), 0.7, 0.9]:
            a = np.maximum(share * stats.chi2.ppf(chance, k - 1) / (k - 1), 1e-12)
            b = np.full_like(a, 1 - share)
            df = np.full_like(a, k - 1.0)
            error = SamplingError(a, df, b, np.full_like(a, np.inf))
            half = stats.t.isf(level / 2, (k - 1) * (a + b) ** 2 / a**2) * np.sqrt(a + b)
            for method, edge in ((NEW, error.half_width(1 - level)), ("Satterthwaite", half)):
                found[method].append(float(weight @ (2 * stats.norm.sf(edge))) / level)
        rows += [
            {"seeds": k, "level": f"{level:g}", "test": name, "least": min(x), "greatest": max(x)}
            for name, x in found.items()
        ]
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """A frame as a table of Markdown."""

    def cell(value: object) -> str:
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * table.shape[1]]
    return "\n".join(
        lines + ["| " + " | ".join(map(cell, row)) + " |" for row in table.to_numpy(object)]
    )


def report(table: pd.DataFrame, trials: int) -> str:
    """The document, with numbers of this run only."""
    named = table.rename(columns={"k": "seeds", "n": "images"})
    named["level"] = (100 * named["level"]).map("{:.0f} %".format)
    chosen = named["method"] == NEW
    normal, shown = named["kind"] == NORMAL, named["level"] == "95 %"
    other = named[~normal & chosen]
    rare = other["kind"].isin(["share 0.1", "share 0.02"]) & (other["seed"] == 1)
    other = other.assign(kind=other["kind"].where(~rare, other["kind"] + ", seeds sd 1"))
    settings = ["kind", "k", "n", "seed", "image", "residual"]
    return TEXT.format(
        trials=trials,
        simulations=f"{table.drop_duplicates(settings)['trials'].sum():,}",
        bounds="; ".join(f"{100 * x:.0f} %: {a} to {b}" for x, (a, b) in BOUNDS.items()),
        outside=len(outside(table)),
        images=IMAGES[0],
        methods=markdown(summary(named[normal & shown], ["seeds", "images", "method"])),
        deciding=markdown(summary(named[normal & chosen & ~shown], ["seeds", "images"])),
        every=markdown(every_setting(named[normal & chosen & shown])),
        other=markdown(summary(other, ["kind", "level", "seeds"])),
        alarms=markdown(false_alarms()),
    )


def every_setting(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage and width of each setting with many images, one column per number of seeds."""
    rows = table[table["images"] == IMAGES[0]]
    pairs = zip(rows["coverage"], rows["width"], strict=True)
    rows = rows.assign(found=[f"{c:.3f} ({w:.2f})" for c, w in pairs])
    sds = ["image", "residual", "seed"]
    wide = rows.pivot(index=sds, columns="seeds", values="found").add_suffix(" seeds").reset_index()
    for name in sds:
        wide[name] = wide[name].map("{:g}".format)
    return wide.rename(columns={name: f"{name} sd" for name in sds})


TEXT = """# Coverage of the intervals

Written by `make coverage-study` (`tests/lib/coverage_study.py`): {simulations} simulated data sets
with known truths, at most {trials} per setting. Seeds (networks) and images are crossed: value =
seed + image + residual, with standard deviations of 0, 0.05, 0.3 and 1 each. Width is the mean
width over that of the interval for which the standard deviation is known; where only seeds count
it is 1.94 with 3 seeds, 1.33 with 5 and 1.12 with 10 (Student's t), and no interval that holds the
truth as often is narrower.

Bounds on coverage, less the simulation's own error: {bounds}.
Settings of the chosen estimator outside of them: **{outside}**.

## Means at 95 %: the chosen estimator and others

The chosen one is `two t variables`: the error is the sum of a t variable with seeds - 1 degrees of
freedom and one with images - 1, with the variances of the two-way analysis of variance
(`statistics/sampling.py`). Least, median and greatest are over settings.

{methods}

The bootstrap with t of seeds - 1 is what this package used before. t over seeds misses the images'
error altogether; Satterthwaite's single t and the cluster-robust variance cover too little where
seeds and images both count; Cochran and Cox's quantile is as good at 95 %, but not a test at small
levels (below). The generalised pivot is Weerahandi's (1993); for two variances it is that of
Behrens (1929) and Fisher (1935).

## Means at 90 %, which decide regions

{deciding}

## Every setting, {images} images, 95 %: coverage (width)

{every}

## Other statistics and designs

Skewed: exponential images and residuals. Shares: a threshold model; sd of seeds and images on its
scale, residual 1. Correlations: mean over seeds of Fisher's z. `seeds sd 1`: shares of rare events
whose rate differs between seeds by orders of magnitude; a few seeds are not enough for any
method (its bounds are not asked for). Ratios: intervals without ends count as holding the truth.

{other}

## Tests at small levels

Error rate over its level, greatest and least over the seeds' share of the variance, by numerical
integration with the images' variance known. A single t (Satterthwaite) is no test after a
correction for many cells.

{alarms}
"""


if __name__ == "__main__":
    number = int(sys.argv[2])
    found = everything(number)
    Path(sys.argv[1]).write_text(report(found, number))
    wrong = outside(found)
    if len(wrong):
        sys.exit(f"coverage out of bounds:\n{wrong.to_string()}")
