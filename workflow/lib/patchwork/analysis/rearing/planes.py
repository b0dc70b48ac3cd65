"""Whether a bias turns with the pictures, in the plane of its two 4-cycle components.

Turning a curve over orientation by x deg multiplies its component z = c4 + i s4 by exp(4 i x): by
-1 at 45 deg and by i at 22.5 deg. What comes from the pictures turns with them, what comes from the
lattice of patches, and from the probes, stays. So networks of upright pictures and of pictures
turned by 45 deg give both parts, and these predict where networks of pictures turned by 22.5 deg
lie, without any angle of a vector that may be short.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from patchwork.analysis.rearing.contrasts import final
from patchwork.statistics.vectors import hotelling, length_interval
from patchwork.tables import ENDS, FINDINGS

PARTS = ("pictures", "lattice", "misfit")
_TESTED = ("c4", "s4", "t2", "p")
_EXCESS = "misfit_minus_half_of_pictures"


def components(frame: pd.DataFrame, measure: str, condition: str) -> pd.DataFrame:
    """Components c4 and s4 of the networks of a condition at their last epoch; index seed."""
    own = frame[(frame["measure"] == measure) & (frame["condition"] == condition)]
    wide = final(own).pivot(index="seed", columns="component", values="value")
    return wide.reindex(columns=["c4", "s4"]).dropna()


def parts(upright: np.ndarray, turned: np.ndarray, between: np.ndarray) -> dict[str, np.ndarray]:
    """Components of pictures and lattice, and what they leave unexplained, of each seed.

    Args:
        upright: shape (n, 2), c4 and s4 of networks of upright pictures.
        turned: the same of pictures turned by 45 deg, in the same order of seeds.
        between: the same of pictures turned by 22.5 deg.

    Returns:
        `PARTS`, each of shape (n, 2).
    """
    pictures, lattice = (upright - turned) / 2, (upright + turned) / 2
    by_i = np.stack([-pictures[:, 1], pictures[:, 0]], axis=1)
    return {"pictures": pictures, "lattice": lattice, "misfit": between - lattice - by_i}


def plane_table(
    frame: pd.DataFrame, conditions: Mapping[str, str], measures: Sequence[str]
) -> pd.DataFrame:
    """The parts of each measure's bias, and how well they predict networks turned by 22.5 deg.

    Args:
        frame: condition, seed, epoch, measure, component (`c4` and `s4`), value.
        conditions: `upright`, `turned` and `between` to names of conditions.
        measures: whose bias is taken apart.

    Returns:
        The table ``tables/rearing_planes.csv``: `PARTS` of each measure and
        `misfit_minus_half_of_pictures`, below zero where the prediction is nearer than half of the
        pictures' part, so nearer than the lattice alone and than pictures that did not turn.
    """
    rows = []
    for measure in measures:
        sides = [
            components(frame, measure, conditions[k]) for k in ("upright", "turned", "between")
        ]
        both = pd.concat(sides, axis=1, join="inner").to_numpy()
        if not len(both):
            continue
        found = parts(both[:, :2], both[:, 2:4], both[:, 4:])
        for part, vectors in found.items():
            c4, s4 = vectors.mean(0)
            t2, p = hotelling(vectors)
            test = {"c4": c4, "s4": s4, "t2": t2, "p": p}
            rows.append(
                {"measure": measure, "part": part, **test, **length_interval(vectors).row()}
            )
        mean = found["pictures"].mean(0)
        half = found["pictures"] @ mean / max(float(np.linalg.norm(mean)), np.finfo(float).tiny) / 2
        excess = length_interval(found["misfit"], half).row()
        rows.append({"measure": measure, "part": _EXCESS, **excess})
    columns = ["measure", "part", "estimate", *ENDS, "n", "seeds", *_TESTED]
    return pd.DataFrame(rows, columns=columns)


def findings(table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Findings `turn_misfit_minus_half_of_pictures_<measure>` of :func:`plane_table`.

    Args:
        table: from :func:`plane_table`.
        condition: name of the condition turned by 22.5 deg.

    Returns:
        Columns `tables.FINDINGS`: dataset `probe`, backbone the condition, protocol `corrected`.
    """
    own = table[table["part"] == _EXCESS]
    address = {"dataset": "probe", "backbone": condition, "protocol": "corrected"}
    return own.assign(quantity=f"turn_{_EXCESS}_" + own["measure"], **address)[list(FINDINGS)]
