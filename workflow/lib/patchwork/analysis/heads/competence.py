"""Which networks have learnt their task: claims about heads are made of these alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from patchwork import statistics
from patchwork.analysis.predictions import PREDICTED
from patchwork.tables import CONDITION, FINDINGS, RUN, groups

_R_LEAST = "r_least"


def competence_table(predictions: pd.DataFrame, gate: Mapping[str, Any]) -> pd.DataFrame:
    """Correlation of each network on the test images, and whether it passes.

    Args:
        predictions: as from :func:`patchwork.tables.gather`.
        gate: ``label``, which is predicted, and ``r_least``, the least Pearson correlation.

    Returns:
        The table ``tables/competence.csv``, a row per run.
    """
    label, rows = gate["label"], []
    for names, part in groups(predictions, RUN):
        pair = part[[label, PREDICTED + label]].dropna().to_numpy(float)
        varies = len(pair) > 1 and (np.ptp(pair, axis=0) > 0).all()
        r = float(np.corrcoef(pair.T)[0, 1]) if varies else 0.0
        rows.append({**names, "label": label, "r": r, "n": len(pair)})
    table = pd.DataFrame(rows)
    return table.assign(competent=table["r"] >= gate[_R_LEAST])


def competent(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of those runs that pass; of a condition that has none, all of them.

    What is then described is decided by no claim: ``n_competent_networks`` is 0.

    Args:
        frame: with the names of its runs.
        table: of :func:`competence_table`.
    """
    none = ~table.groupby(list(CONDITION))["competent"].transform("any")
    passed = table.loc[table["competent"] | none, list(RUN)]
    return frame.merge(passed, on=list(RUN), validate="many_to_one")


def competence_findings(table: pd.DataFrame) -> pd.DataFrame:
    """How many networks pass, per condition.

    Args:
        table: of :func:`competence_table`.

    Returns:
        Columns `tables.FINDINGS`: ``n_competent_networks``, n and seeds counting all networks.
    """
    rows = []
    for names, part in groups(table, CONDITION):
        one = statistics.exact(int(part["competent"].sum()), len(part), len(part))
        rows.append({"quantity": "n_competent_networks", **names, **one.row()})
    return pd.DataFrame(rows, columns=list(FINDINGS))
