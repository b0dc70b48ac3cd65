"""Describe the networks of one data set: edges, spectra, cycles, walks, instability, sweeps."""

from functools import partial

from patchwork.jobs.log import job_log
from patchwork.networks import association, cycles, data, spectral, tables
from patchwork.tables import write


def main(*, dataset: dict, analysis: dict, outputs: dict[str, str]) -> None:
    drawn = data.load(**dataset["source"])
    walk = {"p": analysis["walk_return"], "q": analysis["walk_in_out"]}
    margin = analysis["kreiss_margin"]
    lengths = tuple(analysis["cycle_lengths"])
    properties = {"strengthening": analysis["strengthening"], "margin": margin, **walk}
    signs = {"log_sds": analysis["log_sds"], "n_signings": dataset["n_signings"]}
    first = drawn[:1]  # drawn in figures; an ensemble's other members are summarised
    made = {
        "edges": tables.per_network(drawn, tables.edges),
        "nodes": tables.per_network(drawn, partial(association.node_properties, **properties)),
        "structure": tables.per_network(drawn, partial(tables.structure, margin=margin)),
        "signings": tables.signings(drawn, **signs, seed=analysis["seed"]),
        "spectra": tables.per_network(drawn, spectral.spectra),
        "motifs": tables.per_network(drawn, partial(cycles.motif_costs, lengths=lengths)),
        "walks": tables.per_network(drawn, partial(tables.two_step, **walk)),
        "pseudospectrum": tables.per_network(
            first, partial(tables.pseudospectra, n_points=analysis["pseudospectrum_points"])
        ),
        "edge_sweeps": tables.per_network(
            first,
            partial(
                tables.edge_sweeps,
                factors=analysis["sweep_factors"],
                n_edges=analysis["n_swept_edges"],
            ),
        ),
    }
    for name, table in made.items():
        write(table, outputs[name])


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            dataset=snakemake.params.dataset,
            analysis=snakemake.params.analysis,
            outputs=dict(snakemake.output.items()),
        )
