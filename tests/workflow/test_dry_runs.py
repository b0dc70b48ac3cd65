"""Every profile and scale can be planned; plain uses of Snakemake work."""

import pytest

SCALES = {"default": [], "tiny": ["config/scales/tiny.yaml"], "paper": ["config/scales/paper.yaml"]}


@pytest.mark.parametrize("profile", ["default", "gpu", "slurm"])
@pytest.mark.parametrize("scale", SCALES)
def test_every_profile_plans_every_scale(project, profile, scale):
    files = [part for path in SCALES[scale] for part in ("--configfile", path)]
    run = project.snakemake("-n", "--workflow-profile", f"profiles/{profile}", *files)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "fine_tune" in run.stdout
    assert "decide_claims" in run.stdout


def test_the_default_profile_is_found_and_needs_no_gpu(project):
    run = project.snakemake("-n", "results/lines/angle/reared/described/predictions.parquet")
    assert run.returncode == 0, run.stdout[-3000:]
    assert "profiles/default" in run.stdout
    assert "gpu=0" in run.stdout
    assert "gpu=1" not in run.stdout


@pytest.mark.parametrize("profile", ["gpu", "slurm"])
def test_the_other_profiles_give_jobs_their_gpu(project, profile):
    run = project.snakemake(
        "-n", "--workflow-profile", f"profiles/{profile}",
        "results/lines/angle/reared/described/predictions.parquet",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert "gpu=1" in run.stdout
    assert "gpu=0" not in run.stdout


def test_one_figure_needs_only_its_own_runs(project):
    run = project.snakemake("-n", "results/lines/figures/samples.svg")
    assert run.returncode == 0, run.stdout[-3000:]
    assert "fine_tune" not in run.stdout
    assert "plot_samples" in run.stdout


def test_the_graph_can_be_drawn(project):
    run = project.snakemake("--dag", "dot", "--quiet", "all", "--configfile",
                            "config/scales/tiny.yaml")  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:]
    assert "digraph" in run.stdout
