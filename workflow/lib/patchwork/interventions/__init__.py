"""Interventions on transformers: context managers, and sweeps that are exact and fast."""

from patchwork.interventions.circuits import faithfulness, node_scores
from patchwork.interventions.contexts import BASELINES, ablate, gaussian_noise, patch, steer
from patchwork.interventions.direct import direct_effects, lens, logit_lens
from patchwork.interventions.edges import edge_sweep
from patchwork.interventions.hooks import mean_activations, read
from patchwork.interventions.paths import path_sweep
from patchwork.interventions.readout import LogitDifference
from patchwork.interventions.sweeps.ablation import group_ablation_sweep, head_ablation_sweep
from patchwork.interventions.sweeps.attribution import attribution_sweep, correlation
from patchwork.interventions.sweeps.effects import AblationEffects, PatchEffects, load
from patchwork.interventions.sweeps.grid import PatchGrid
from patchwork.interventions.sweeps.maps import heat_map
from patchwork.interventions.sweeps.patching import patch_sweep
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
    "direct_effects",
    "edge_sweep",
    "faithfulness",
    "gaussian_noise",
    "group_ablation_sweep",
    "head_ablation_sweep",
    "heat_map",
    "lens",
    "load",
    "logit_lens",
    "mean_activations",
    "node_scores",
    "patch",
    "patch_sweep",
    "path_sweep",
    "read",
    "steer",
]
