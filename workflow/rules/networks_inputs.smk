# Tables of studies of networks.

# Each is made for every data set.
NETWORK_TABLES = (
    "edges spectra motifs walks pseudospectrum edge_sweeps scored_nodes score_spread associations"
    " rank_profiles sign_effects"
).split()


def network_tables(wildcards) -> dict[str, list[str]]:
    """The tables of a figure by name, each from every data set in order."""
    names = study_of(wildcards)["networks"]["datasets"]
    return {
        table: [f"<results>/{{study}}/{name}/{table}.csv" for name in names]
        for table in NETWORK_TABLES
    }
