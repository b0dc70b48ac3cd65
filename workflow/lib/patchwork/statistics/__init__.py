"""Intervals and tests for few seeds and many examples."""

from patchwork.statistics.bootstrap import (
    CONFIDENCE,
    DEFAULT,
    N_RESAMPLES,
    Interval,
    Resampling,
    Statistic,
    arithmetic_mean,
    bootstrap_means,
    cluster_bootstrap,
    interval_of,
    joint_bootstrap,
    paired_bootstrap,
)
from patchwork.statistics.effects import (
    Equivalence,
    effect_table,
    equivalence_test,
    false_discovery_rate,
    max_t_p,
    permutation_p,
    split_half,
    two_sample_permutation_p,
)

__all__ = [
    "CONFIDENCE",
    "DEFAULT",
    "N_RESAMPLES",
    "Equivalence",
    "Interval",
    "Resampling",
    "Statistic",
    "arithmetic_mean",
    "bootstrap_means",
    "cluster_bootstrap",
    "effect_table",
    "equivalence_test",
    "false_discovery_rate",
    "interval_of",
    "joint_bootstrap",
    "max_t_p",
    "paired_bootstrap",
    "permutation_p",
    "split_half",
    "two_sample_permutation_p",
]
