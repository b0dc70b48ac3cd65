"""Maps of a sweep's effects: layer by head, and layer by token."""

from collections.abc import Sequence
from typing import Any

from patchwork.interventions.sweeps.effects import AblationEffects, PatchEffects


def heat_map(
    effects: AblationEffects | PatchEffects,
    which: str | None = None,
    *,
    tokens: Sequence[str] | None = None,
    axes: Any = None,
) -> Any:
    """Draw mean effects: layer by head of an ablation, layer by token of patching.

    Args:
        effects: what a sweep gave.
        which: baseline or component; None is the first. Of `head_out` each row is a head.
        tokens: names of the patched positions, in their order.
        axes: Matplotlib axes to draw into; None makes a figure.

    Returns:
        The axes. Of an ablation the colour is the change of the metric; of patching the recovery,
        the share of the difference between source and base.

    Raises:
        ValueError: for another baseline or component, or another number of tokens.
    """
    import seaborn  # half a second, which sweeps without maps need not wait

    names = effects.baselines if isinstance(effects, AblationEffects) else tuple(effects.values)
    which = names[0] if which is None else which
    if which not in names:
        raise ValueError(f"which is {which!r}; allowed is {', '.join(names)}")
    if isinstance(effects, AblationEffects):
        grid, label = effects.values[names.index(which)].mean(-1), "change of the metric"
        rows: list[Any] = list(range(len(grid)))
        columns: Sequence[Any] = range(grid.shape[1])
        titles = ("head", "layer")
    else:
        grid, label = effects.recovery(which), "recovery"
        rows, titles = list(range(len(grid))), ("token", "layer")
        if grid.ndim == 3:
            rows = [f"{layer}.{head}" for layer in rows for head in range(grid.shape[1])]
            grid, titles = grid.reshape(-1, grid.shape[-1]), ("token", "layer.head")
        columns = effects.positions if tokens is None else tokens
        if len(columns) != grid.shape[1]:
            raise ValueError(f"tokens has {len(columns)} names; allowed is {grid.shape[1]}")
    drawn = seaborn.heatmap(
        grid, center=0, cmap="PuOr_r", ax=axes, cbar_kws={"label": label},
        xticklabels=list(columns), yticklabels=rows,
    )  # fmt: skip
    drawn.set(xlabel=titles[0], ylabel=titles[1], title=which)
    return drawn
