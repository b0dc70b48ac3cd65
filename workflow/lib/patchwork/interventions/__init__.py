"""Interventions on transformers: context managers, and sweeps that are exact and fast."""

from patchwork.interventions.contexts import BASELINES, ablate, gaussian_noise, patch
from patchwork.interventions.hooks import mean_activations, read
from patchwork.interventions.readout import LogitDifference
from patchwork.interventions.sweeps.ablation import group_ablation_sweep, head_ablation_sweep
from patchwork.interventions.sweeps.attribution import attribution_sweep, correlation
from patchwork.interventions.sweeps.effects import AblationEffects, PatchEffects
from patchwork.interventions.sweeps.patching import PatchGrid, patch_sweep
from patchwork.interventions.sweeps.plan import Plan

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
