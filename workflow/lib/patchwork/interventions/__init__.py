"""Interventions on transformers: two verbs, and sweeps that are exact and fast."""

from patchwork.interventions.ablation import group_ablation_sweep, head_ablation_sweep
from patchwork.interventions.attribution import attribution_sweep, correlation
from patchwork.interventions.effects import AblationEffects, PatchEffects
from patchwork.interventions.hooks import mean_activations, read
from patchwork.interventions.pairs import PatchGrid
from patchwork.interventions.patching import patch_sweep
from patchwork.interventions.plan import Plan
from patchwork.interventions.tail import LogitDifference
from patchwork.interventions.verbs import BASELINES, ablate, gaussian_noise, patch

__all__ = [
    "BASELINES",
    "AblationEffects",
    "LogitDifference",
    "PatchEffects",
    "PatchGrid",
    "Plan",
    "ablate",
    "attribution_sweep",
    "correlation",
    "gaussian_noise",
    "group_ablation_sweep",
    "head_ablation_sweep",
    "mean_activations",
    "patch",
    "patch_sweep",
    "read",
]
