"""Networks as data: the piezoelectric actuator, user files, random signed networks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from defusedxml import ElementTree as SafeTree
from defusedxml.common import DefusedXmlException

_LINKS = ((0, 1), (0, 5), (1, 2), (1, 6), (2, 3), (2, 7), (4, 1), (4, 5), (5, 2), (5, 6))
_ROW_3 = (-2.7480, 1.3083, -4.2614, -517.0544, 0.0, 0.0, -2.6331, -0.9492)
_ROW_7 = (0.0, 0.0, -49.4899, -191.8224, -5.2346, -3.6549, -1.7819, -239.0092)
_FEATURES = (
    (0.5, -0.1, 0.3),
    (0.2, 0.1, 0.7),
    (-0.5, 0.7, -0.1),
    (-0.1, -0.6, 0.4),
    (0.3, -0.5, -0.2),
    (0.1, -0.1, -0.4),
    (0.3, 0.8, -0.1),
    (0.1, -0.2, 0.2),
)
_TARGETS = (0.01, 0.2, 0.2, 0.01, 0.01, 0.2, 0.2, 0.01)
_MAX_DRAWS = 1000
_FEATURE_KEY, _REWIRING_KEY = 212641, 212642  # apart from the seeds of networks
_SWAPS_PER_EDGE = 10


@dataclass(frozen=True)
class Network:
    """A weighted directed graph that is also the state matrix of x' = A x.

    Entry (i, j) is drawn as an edge from i to j and is the weight with which state j drives
    state i, so "i attends to j" and "j acts on i" are the same entry.
    """

    names: tuple[str, ...]
    weights: np.ndarray

    def __post_init__(self) -> None:
        """Refuse anything but a square, finite matrix with one distinct name per node."""
        _check_weights(self.weights, "network")
        if len(self.names) != len(self.weights) or len(set(self.names)) != len(self.names):
            raise ValueError(
                f"names: {len(set(self.names))} distinct names; allowed is one name "
                f"for each of {len(self.weights)} nodes"
            )


@dataclass(frozen=True)
class RandomNetworks:
    """How random signed networks are drawn.

    Attributes:
        n_nodes: nodes per network.
        mean_degree: expected out-degree.
        negative_fraction: probability that an edge is negative.
        abscissa: spectral abscissa that every network is scaled to, between -1 and 0.
    """

    n_nodes: int = 8
    mean_degree: float = 2.5
    negative_fraction: float = 0.5
    abscissa: float = -0.1


def actuator() -> Network:
    """The 8-state actuator model as a signed network.

    Returns:
        The network; nodes are named "0" to "7".

    Source: Bahador & Lankarany 2023, Dynamics 3(2), 214-233 (arXiv 2212.09641), after the
    identified two-input two-output model of a piezoelectric tube actuator in HAL 02867840.
    """
    weights = np.zeros((8, 8))
    for i, j in (*_LINKS, (6, 3), (6, 7)):
        weights[i, j] = 1.0
    weights[3], weights[7] = _ROW_3, _ROW_7
    return Network(tuple(str(i) for i in range(8)), weights)


def read_network(path: str | Path) -> Network:
    """Read a network from a square CSV table or a GraphML file.

    Args:
        path: `.csv` (first column and header row hold the same node names in the same order) or
            `.graphml` (edge attribute `weight`; an edge without one counts 1).

    Returns:
        The network.

    Raises:
        ValueError: if the file is neither, is not square, not finite or leaves a node unnamed.
    """
    path = Path(path)
    readers = {".csv": _read_csv, ".graphml": _read_graphml}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: suffix '{path.suffix}'; allowed are {', '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a .csv or .graphml network is needed")
    return readers[path.suffix.lower()](path)


def random_network(settings: RandomNetworks, seed: int, index: int) -> Network:
    """One strongly connected random signed network, a pure function of seed and index.

    A = -I + c W with W an Erdos-Renyi digraph of magnitudes U(0.5, 1.5) and independent signs;
    c sets the spectral abscissa, so that networks differ in structure, not in how stable they are.

    Args:
        settings: size, density, polarity, abscissa.
        seed: of the whole ensemble, >= 0.
        index: of this network in it, >= 0.

    Returns:
        The network.

    Raises:
        ValueError: if no strongly connected network is found in 1000 draws.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    n = settings.n_nodes
    for _ in range(_MAX_DRAWS):
        edges = rng.random((n, n)) < settings.mean_degree / (n - 1)
        np.fill_diagonal(edges, False)
        magnitudes = rng.uniform(0.5, 1.5, (n, n))
        signs = np.where(rng.random((n, n)) < settings.negative_fraction, -1.0, 1.0)
        if nx.is_strongly_connected(nx.from_numpy_array(edges, create_using=nx.DiGraph)):
            weights = edges * magnitudes * signs
            gain = (1 + settings.abscissa) / np.linalg.eigvals(weights).real.max()
            return Network(tuple(str(i) for i in range(n)), gain * weights - np.eye(n))
    raise ValueError(
        f"mean_degree: {settings.mean_degree}; too sparse for a strongly connected network "
        f"of {n} nodes in {_MAX_DRAWS} draws"
    )


def rewired(network: Network, index: int) -> Network:
    """A random network in which every node keeps its in-degree, out-degree and out-strength.

    Pairs of edges swap the nodes that they act on, each weight staying with the node that acts
    (column of the state matrix); self-loops stay.

    Args:
        network: two nodes or more.
        index: of the network in its data set, >= 0; decides the draw.

    Returns:
        The network; with the same edges where no swap is possible.

    Source: Maslov & Sneppen 2002, Science 296, 910-913 (switching of edges).
    """
    rng = np.random.Generator(np.random.Philox(key=[_REWIRING_KEY, index]))
    weights = network.weights.copy()
    rows, columns = np.nonzero(weights * ~np.eye(len(weights), dtype=bool))
    for _ in range(_SWAPS_PER_EDGE * len(rows)):
        a, b = rng.integers(0, len(rows), 2)
        (i, k), (j, m) = (rows[a], rows[b]), (columns[a], columns[b])
        # Edges that share an end, or would meet another edge or make a self-loop, stay.
        if i != k and j != m and i != m and k != j and not weights[k, j] and not weights[i, m]:
            weights[k, j], weights[i, m] = weights[i, j], weights[k, m]
            weights[i, j] = weights[k, m] = 0.0
            rows[a], rows[b] = k, i
    return Network(network.names, weights)


def load(kind: str, **settings: Any) -> list[Network]:
    """Networks of one data set.

    Args:
        kind: a key of `KINDS`.
        **settings: of that kind: none for actuator; path for file; seed, n_networks and the fields
            of `RandomNetworks` for random.

    Returns:
        One network or more.
    """
    return KINDS[kind](**settings)


def node_features(kind: str, network: Network, index: int, factor: float = 1.0) -> np.ndarray:
    """Features of the nodes: the paper's for the actuator, drawn for every other network.

    Args:
        kind: a key of `KINDS`.
        network: whose nodes.
        index: of the network in its data set, >= 0; decides the draw.
        factor: the perturbation factor that multiplies the features of node 0.

    Returns:
        shape (n, 3), unitless.
    """
    if kind == "actuator":
        features = np.array(_FEATURES)
    else:
        # ASSUME: the paper gives features for its own network alone; ours span the same range
        rng = np.random.Generator(np.random.Philox(key=[_FEATURE_KEY, index]))
        features = rng.uniform(-1, 1, (len(network.weights), 3))
    features[0] *= factor
    return features


def node_targets(kind: str) -> np.ndarray | None:
    """Targets of the nodes, unitless: the paper's for the actuator, none for other networks."""
    return np.array(_TARGETS) if kind == "actuator" else None


def _random_networks(*, n_networks: int, seed: int, **settings: Any) -> list[Network]:
    drawn = RandomNetworks(**settings)
    return [random_network(drawn, seed, index) for index in range(n_networks)]


KINDS: dict[str, Callable[..., list[Network]]] = {
    "actuator": lambda: [actuator()],
    "file": lambda *, path: [read_network(path)],
    "random": _random_networks,
}


def _check_weights(weights: np.ndarray, source: object) -> None:
    shape = weights.shape
    if weights.ndim != 2 or shape[0] != shape[1] or shape[0] < 2:
        size = " x ".join(map(str, shape))
        raise ValueError(f"{source}: {size} matrix; allowed is square, 2 x 2 or larger")
    if not np.isfinite(weights).all():
        i, j = np.argwhere(~np.isfinite(weights))[0]
        raise ValueError(
            f"{source}: entry ({i}, {j}) is {weights[i, j]}; allowed are finite numbers"
        )


def _read_csv(path: Path) -> Network:
    try:
        # duplicate names must stay visible, so the header is read as data
        table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not a table ({reason}); allowed is a square CSV") from error
    names, rows = table.iloc[0, 1:].str.strip(), table.iloc[1:, 0].str.strip()
    if len(names) != len(rows):
        raise ValueError(f"{path}: {len(rows)} x {len(names)} matrix; allowed is a square one")
    if (names == "").any() or list(names) != list(rows):
        raise ValueError(f"{path}: row names differ from column names; allowed is the same order")
    try:
        weights = table.iloc[1:, 1:].to_numpy(dtype=str).astype(float)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; allowed are finite numbers") from error
    return _named(path, tuple(names), weights)


def _read_graphml(path: Path) -> Network:
    try:
        # Entities can expand without bound, and no network needs them.
        SafeTree.parse(path, forbid_dtd=True)
    except DefusedXmlException:
        raise ValueError(
            f"{path}: holds a document type declaration; allowed is plain GraphML"
        ) from None
    except Exception as error:  # no XML at all, or in no encoding that is known
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not readable as GraphML ({reason})") from error
    try:
        graph: nx.DiGraph = nx.DiGraph(nx.read_graphml(path))
        weights = nx.to_numpy_array(graph, weight="weight", dtype=np.dtype(float))
    except Exception as error:  # networkx raises many kinds for foreign files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not readable as GraphML ({reason})") from error
    # "name" is what most writers use for the visible name; the id is the fallback
    names = tuple(str(data.get("name", node)) for node, data in graph.nodes(data=True))
    return _named(path, names, weights)


def _named(path: Path, names: tuple[str, ...], weights: np.ndarray) -> Network:
    _check_weights(weights, path)
    try:
        return Network(names, weights)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
