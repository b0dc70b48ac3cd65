"""How well events were found, by the rules of seizure detection and by stricter ones."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

# Events are compared at this rate, samples at the other, Hz. Source: Dan et al. 2024, "SzCORE".
_EVENT_HZ, _SAMPLE_HZ = 10, 1
_DAY_S = 86_400.0

Spans = Iterable[tuple[float, float]]


@dataclass(frozen=True)
class Rules:
    """When a true event counts as found.

    Attributes:
        before_s: tolerance before the start of a true event.
        after_s: tolerance after its end.
        overlap: share of the true event, tolerance included, that must be covered by more than
            this; 0: any overlap counts.
        longest_s: longer events are split into pieces of this length.
        gap_s: events with a shorter gap between them are one.
    """

    before_s: float
    after_s: float
    overlap: float
    longest_s: float
    gap_s: float


# Source: Dan et al. 2024, "SzCORE: a seizure community open-source research evaluation framework".
SZCORE = Rules(before_s=30, after_s=60, overlap=0.0, longest_s=300, gap_s=90)
# ASSUME: those rules join chirps of some seconds that lie less than a minute and a half apart.
STRICT = Rules(before_s=1, after_s=1, overlap=0.5, longest_s=300, gap_s=0)


@dataclass(frozen=True)
class Scores:
    """Counts of a comparison.

    Attributes:
        n_true: true events, or samples.
        n_hit: those of them that were found.
        n_false: found events, or samples, that touch no found true one.
        duration_s: of the recording.
    """

    n_true: int
    n_hit: int
    n_false: int
    duration_s: float

    @property
    def sensitivity(self) -> float:
        """Share of true events that were found; nan without any."""
        return self.n_hit / self.n_true if self.n_true else np.nan

    @property
    def precision(self) -> float:
        """Hits over hits and false alarms; nan where nothing was found."""
        n = self.n_hit + self.n_false
        return self.n_hit / n if n else np.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; nan without true events and false alarms."""
        n = self.n_true + self.n_false
        return 2 * self.n_hit / (self.n_hit + n) if n else np.nan

    @property
    def false_per_day(self) -> float:
        """False alarms, or samples, in 24 hours."""
        return self.n_false / self.duration_s * _DAY_S


def score_events(true: Spans, found: Spans, duration_s: float, rules: Rules) -> Scores:
    """Compare events of one channel or one recording.

    Args:
        true: start and end of each, seconds from 0 to duration_s, in any order.
        found: likewise.
        duration_s: of the recording, more than 0.
        rules: see `Rules`; those that are `SZCORE` give the numbers of the package timescoring.

    Returns:
        Counts of events.
    """
    n = round(duration_s * _EVENT_HZ)
    wanted, given = (_split(_join(spans, rules.gap_s), rules.longest_s) for spans in (true, found))
    covered = _mask(given, n, _EVENT_HZ)
    hit = np.zeros(n, bool)
    n_hit = 0
    for start_s, end_s in wanted:
        first_s = max(0.0, start_s - rules.before_s)
        last_s = min(n / _EVENT_HZ, end_s + rules.after_s)
        inside = slice(round(first_s * _EVENT_HZ), round(last_s * _EVENT_HZ))
        share = covered[inside].sum() / _EVENT_HZ / (last_s - first_s)
        if share > rules.overlap + 1e-6:
            n_hit += 1
            hit[inside] = True
    n_false = sum(
        not hit[round(start_s * _EVENT_HZ) : round(end_s * _EVENT_HZ)].any()
        for start_s, end_s in given
    )
    return Scores(len(wanted), n_hit, n_false, n / _EVENT_HZ)


def score_samples(true: Spans, found: Spans, duration_s: float) -> Scores:
    """Compare second by second.

    Args:
        true: as for `score_events`.
        found: likewise.
        duration_s: of the recording, more than 0.

    Returns:
        Counts of samples of one second.
    """
    n = round(duration_s * _SAMPLE_HZ)
    wanted, given = (_mask(spans, n, _SAMPLE_HZ) for spans in (true, found))
    counted = (wanted, wanted & given, given & ~wanted)
    n_true, n_hit, n_false = (int(one.sum()) for one in counted)
    return Scores(n_true, n_hit, n_false, n / _SAMPLE_HZ)


def _mask(spans: Spans, n: int, rate_hz: float) -> np.ndarray:
    mask = np.zeros(n, bool)
    for start_s, end_s in spans:
        mask[round(start_s * rate_hz) : round(end_s * rate_hz)] = True
    return mask


def _join(spans: Spans, gap_s: float) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s - joined[-1][1] < gap_s:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return joined


def _split(spans: Iterable[tuple[float, float]], longest_s: float) -> list[tuple[float, float]]:
    pieces = []
    for start_s, end_s in spans:
        while end_s - start_s > longest_s:
            pieces.append((start_s, start_s + longest_s))
            start_s += longest_s
        pieces.append((start_s, end_s))
    return pieces
