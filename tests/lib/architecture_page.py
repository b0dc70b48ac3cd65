"""What works how on small random models of every architecture, found by running it.

`make docs` writes docs/architectures.md with it; `test_architecture_page.py` compares.
"""

import sys
from pathlib import Path

import architecture_models as models
import torch
from patchwork.interventions import (
    LogitDifference,
    PatchGrid,
    ablate,
    attribution_sweep,
    direct_effects,
    head_ablation_sweep,
    lens,
    patch,
    patch_sweep,
    steer,
)
from patchwork.models import sites

CASES = {**models.CASES, **models.OTHERS}
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "head_out")
HEADER = """# What works how, by architecture

Written by `make docs`, which runs everything here on small random models made from their
configurations (`tests/lib/architecture_models.py`): a change of the table of architectures that is
not written down here fails a test. [interventions.md](interventions.md) says what the columns mean.
"""


def _yes(run):
    """`yes`, or `no` and why."""
    try:
        run()
    except ValueError as error:
        return "no", str(error)
    return "yes", None


def row(name):
    """One architecture: cells by column, and notes on cells that say `plain` or `no`."""
    model, batch = models.make(name), models.inputs(name)
    source, anatomy = models.inputs(name, seed=1), sites.find(model)
    heads = head_ablation_sweep(model, batch, models.metric)
    grid = PatchGrid(COMPONENTS, (2,))
    patching = patch_sweep(model, source, batch, models.metric, grid=grid)
    sweeps = {"head ablation": heads, "patching": patching}
    notes = {
        # Without how far it is off, which differs between machines.
        column: sweep.metadata["reason"].split(" (by ")[0]
        for column, sweep in sweeps.items()
        if sweep.metadata["path"] == "plain"
    }
    kind, model_type, _, _ = CASES[name]
    cells = {
        "architecture": name,
        "model type": model_type if isinstance(model_type, str) else f"timm {model_type.__name__}",
        "row of the table": anatomy.family,
        "prefix": anatomy.n_prefix,
        "head ablation": heads.metadata["path"],
        "patching": patching.metadata["path"],
    }

    def verbs():
        with torch.no_grad(), ablate(model, "1.head_out.1", "mean", reference=source):
            model(batch)
        for site in ("1.resid_pre@2", "0.mlp_hidden.3", "2.resid_post"):
            with torch.no_grad(), patch(model, site, source):
                model(batch)

    def inside():
        with torch.no_grad(), ablate(model, "1.pattern.2@3<-1", "knockout"):
            model(batch)
        for site in ("1.q.1", "1.k.0", "1.v"):
            with torch.no_grad(), patch(model, site, source):
                model(batch)

    metric = LogitDifference(torch.arange(len(batch)), torch.arange(len(batch)) + 10)

    def generate():
        with torch.no_grad(), steer(model, "1.resid_post", torch.ones(anatomy.d_model)):
            model.generate(batch, max_new_tokens=2, do_sample=False)

    def estimate(method, components):
        some = PatchGrid(components, (2,))
        attribution_sweep(model, source, batch, models.metric, grid=some, method=method)

    tried = {
        "verbs": verbs,
        "attention, q, k, v": inside,
        "attribution": lambda: attribution_sweep(model, source, batch, models.metric),
        "qk_fix": lambda: estimate("qk_fix", ("q", "k", "v")),
        "relp": lambda: estimate("relp", ("resid_pre", "head_out", "mlp_out")),
        "logit lens": lambda: list(lens(model, batch)),
    }
    if kind in ("ForCausalLM", "ForMaskedLM"):
        tried["direct effects"] = lambda: direct_effects(model, batch, metric)
    if kind == "ForCausalLM":
        tried["generate"] = generate
    for column, run in tried.items():
        cells[column], reason = _yes(run)
        if reason is not None:
            notes[column] = reason
    for column in ("direct effects", "generate"):  # of language models
        cells.setdefault(column, "-")
    return cells, notes


def refused(model_type):
    """The line that refuses a model type."""
    try:
        sites.find(models.named_alike(model_type, **models.REFUSED[model_type]))
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{model_type} is supported")


def _line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def line(cells):
    """The row of the page."""
    return _line(cells.values())


def note(name, column, reason):
    """The line of the page on a cell."""
    return f"- {name}, {column}: {reason}"


def refusal(model_type):
    """The row of the page on a refused model type."""
    return _line([model_type, refused(model_type)])


def page():
    """The whole page."""
    rows = {name: row(name) for name in CASES}
    columns = list(next(iter(rows.values()))[0])
    notes = [note(name, *item) for name, (_, some) in rows.items() for item in some.items()]
    lines = [line(cells) for cells, _ in rows.values()]
    parts = [
        HEADER,
        "\n".join([_line(columns), "|" + "---|" * len(columns), *lines]),
        "\nprefix: tokens before the first patch; verbs: `ablate` and `patch` of any site.\n",
        "## Why not, or why on the plain path\n",
        "\n".join(notes),
        "\n## Refused\n",
        "\n".join(["| model type | line |", "|---|---|", *map(refusal, models.REFUSED)]),
        "\nViT-MAE's encoder runs as a ViT: load its weights with `ViTModel.from_pretrained`.",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
