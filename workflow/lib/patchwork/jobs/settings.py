"""What the configuration of a study says to its jobs: runs, conditions, and blocks of numbers.

Every function takes the block of one study, as `config/studies/<study>.yaml` gives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

Study = Mapping[str, Any]

CONDITION = ("dataset", "backbone", "protocol")


def share_seeds(configuration: Mapping[str, Any]) -> None:
    """Gives the repetitions of all to every study that has none of its own, in place."""
    for study in configuration["studies"].values():
        study.setdefault("seeds", configuration["seeds"])


def leave_out(configuration: Mapping[str, Any]) -> None:
    """Takes out, in place, the blocks and figures of studies that are null.

    So a scale does without what a study has by default.
    """
    studies = configuration.get("studies")
    for study in studies.values() if isinstance(studies, dict) else ():
        blocks = (study, study.get("figures")) if isinstance(study, dict) else ()
        for block in (one for one in blocks if isinstance(one, dict)):
            for name in [key for key, value in block.items() if value is None]:
                del block[name]


def conditions(
    study: Study, part: str | None = None, keys: Sequence[str] = CONDITION
) -> list[dict]:
    """Every dataset, backbone and protocol that is trained, each combination once, in order.

    Args:
        study: with ``runs``.
        part: a block of its analyses, interventions or semantics, which takes only the datasets,
            backbones and protocols that it lists.
        keys: those of `CONDITION` that count.
    """
    parts = (study.get(key, {}) for key in ("analyses", "interventions", "semantics"))
    blocks: dict[str, Any] = {name: block for one in parts for name, block in one.items()}
    chosen = {} if part is None else blocks[part]
    rows = [
        dict(zip(CONDITION, values, strict=True))
        for row in study["runs"]
        for values in product(row["datasets"], row["backbones"], row["protocols"])
    ]
    found = {
        tuple(row[key] for key in keys): None
        for row in rows
        if all(row[key] in chosen.get(f"{key}s", [row[key]]) for key in CONDITION)
    }
    return [dict(zip(keys, values, strict=True)) for values in found]


def runs(study: Study, part: str | None = None) -> list[dict]:
    """Every run of the `conditions`: one for each of the study's ``seeds``."""
    return [{**row, "seed": seed} for row in conditions(study, part) for seed in study["seeds"]]


def compared(study: Study) -> list[dict]:
    """Every backbone and protocol whose heads are compared between datasets, sorted."""
    rows = conditions(study, "similarity", ("backbone", "protocol"))
    return sorted(rows, key=lambda row: (row["backbone"], row["protocol"]))


def tasks(study: Study, backbone: str, protocol: str) -> list[str]:
    """The datasets between which the heads of one network are compared."""
    return [
        row["dataset"]
        for row in conditions(study, "similarity")
        if (row["backbone"], row["protocol"]) == (backbone, protocol)
    ]


def differs_by_seed(backbone: Mapping[str, Any]) -> bool:
    """Whether a backbone is another one for every seed; weights made elsewhere are the same."""
    return backbone["source"] in ("pretrained", "random") or backbone.get("shuffled", False)


def training(study: Study, dataset: str, protocol: str) -> dict[str, Any]:
    """How a run trains: the study's numbers, then the protocol's own, then the dataset's."""
    return {
        **study["training"],
        **study["protocols"][protocol].get("training", {}),
        **study["stimuli"]["datasets"][dataset].get("training", {}),
    }


def schedule(study: Study) -> dict[str, Any]:
    """Steps of warm-up, and the weights of the targets of each protocol."""
    return {
        "warmup_steps": study["training"]["schedule"]["warmup_steps"],
        "weights": {
            name: {key: target.get("weight", 1.0) for key, target in block["targets"].items()}
            for name, block in study["protocols"].items()
        },
    }


def images(study: Study, dataset: str, split: str = "test") -> dict[str, Any]:
    """What one split of one dataset is drawn from, and nothing else.

    Returns:
        ``kind``, ``seed`` and ``settings`` of the generator, ``first_index`` and ``n``.
    """
    stimuli = study["stimuli"]
    return {
        "kind": stimuli["kind"],
        "seed": stimuli["seed"],
        "settings": stimulus(study, dataset),
        **split_of(study, dataset, split),
    }


def stimulus(study: Study, dataset: str) -> dict[str, Any]:
    """The generator's settings of a dataset: common ones, then its own."""
    stimuli = study["stimuli"]
    return {**stimuli["common"], **stimuli["datasets"][dataset]["settings"]}


def depth_images(study: Study) -> dict[str, dict[str, Any]]:
    """What the test lines of each view are drawn from on which bias by depth is measured."""
    block = study["analyses"]["depth"]
    return {
        view: {**images(study, dataset), "n": block["n_images"]}
        for view, dataset in block["datasets"].items()
    }


def drawn_colours(study: Study) -> dict[str, dict]:
    """The generator's settings of the datasets whose lines are drawn in every colour."""
    return {name: stimulus(study, name) for name in study["analyses"]["colour"]["datasets"]}


def split_of(study: Study, dataset: str, split: str) -> dict[str, int]:
    """First image number and number of images of one split of a dataset."""
    n_train = study["stimuli"]["datasets"][dataset].get("n_train")
    found = dict(study["stimuli"]["splits"][split])
    return {**found, "n": n_train} if split == "train" and n_train else found


def views(study: Study) -> dict[str, dict]:
    """How each backbone that is pre-trained on pictures sees them, with the side of its images."""
    image_px = study["stimuli"]["common"]["image_px"]
    return {
        name: {**block["pretraining"]["views"], "image_px": image_px}
        for name, block in study["backbones"].items()
        if "views" in block.get("pretraining", {})
    }


def views_of_conditions(study: Study) -> dict[str, dict]:
    """How each rearing condition that is pre-trained on pictures sees them."""
    seen = views(study)
    return {name: seen[name] for name in study["rearing_conditions"]["names"] if name in seen}


def needs_colour(study: Study) -> bool:
    """Whether a backbone sees its pictures in colour."""
    return any(one.get("colour", "grey") != "grey" for one in views(study).values())


def text_conditions(study: Study) -> list[dict]:
    """Every dataset, backbone and protocol that a language model is trained on, in order."""
    found = {
        values: None
        for row in study["language"]["runs"]
        for values in product(row["datasets"], row["backbones"], row["protocols"])
    }
    return [dict(zip(CONDITION, values, strict=True)) for values in found]


def text_seeds(study: Study, dataset: str, backbone: str, protocol: str) -> list[int]:
    """The seeds of one condition of language models: all, or the first ``n_seeds``."""
    condition = {"datasets": dataset, "backbones": backbone, "protocols": protocol}
    rows = [
        row
        for row in study["language"]["runs"]
        if all(value in row[key] for key, value in condition.items())
    ]
    n = max((row.get("n_seeds", len(study["seeds"])) for row in rows), default=0)
    return list(study["seeds"][:n])


def text_training(study: Study, protocol: str) -> dict[str, Any]:
    """How a language model trains: the study's numbers, then the protocol's own."""
    language = study["language"]
    return {**language["training"], **language["protocols"][protocol].get("training", {})}


def mentions(study: Study) -> dict[str, dict[str, str]]:
    """The words that are counted in each fetched corpus, by name of the corpus."""
    found = study["language"]["datasets"].items()
    return {
        name: block["mentions"]
        for name, block in found
        if "mentions" in block and block["source"]["kind"] != "invented"
    }


def planted_layers(study: Study) -> dict[str, int]:
    """The layer that alone could learn the facts, by protocol."""
    adapters = {name: one["adapter"] for name, one in study["language"]["protocols"].items()}
    return {name: one["layer"] for name, one in adapters.items() if one["kind"] == "mlp"}


def timing(study: Study) -> dict[str, Any]:
    """How many passes over how many images are timed."""
    block = study["analyses"]["timing"]
    return {key: block[key] for key in ("n_images", "repetitions")}


def timed(study: Study) -> dict[str, str]:
    """The condition whose networks are timed."""
    return study["analyses"]["timing"]["condition"]


def localisation(study: Study) -> dict[str, Any]:
    """Numbers of the scores of places, and the sizes of the datasets of the learning curve."""
    block = dict(study["analyses"]["localisation"])
    names = block.pop("learning_curve")
    trained = {row["dataset"] for row in conditions(study)}
    return block | {
        "sizes": {name: split_of(study, name, "train")["n"] for name in names if name in trained}
    }


def planted(study: Study, claims: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Effects that positive controls plant, with the region that is claimed of each quantity.

    Args:
        study: with ``planted``, quantity to effect, or without.
        claims: of this study.
    """
    decisions = [one for claim in claims for one in claim["decisions"]]
    regions = {one["quantity"]: one["claimed"] for one in decisions if "quantity" in one}
    return {
        name: {"effect": effect, "claimed": regions[name]}
        for name, effect in study.get("planted", {}).items()
        if name in regions
    }


def search(study: Study, recording: str) -> dict[str, Any]:
    """How one recording is searched, without any path: what it says of itself comes first.

    Args:
        study: with ``recordings``.
        recording: key of ``recordings.files``.
    """
    block = study["recordings"]
    shared = {key: block[key] for key in block if key not in ("files", "network")}
    one = block["files"][recording]
    own = {} if isinstance(one, str) else {key: one[key] for key in one if key != "path"}
    return {**shared, **own, "seed": block["network"]["seed"]}


def recording_path(one: str | Mapping[str, Any]) -> str:
    """The path of an entry of ``recordings.files``: a path, or a mapping with one."""
    return one if isinstance(one, str) else one["path"]


def reference(study: Study, cited: Mapping[str, Any]) -> str:
    """The study's paper as one line.

    Args:
        study: with ``paper``.
        cited: the contents of CITATION.cff, with authors and titles of papers.
    """
    known = {one["identifiers"][0]["value"]: one for one in cited["references"]}
    one = known.get(study["paper"].replace("arXiv ", "arXiv:"))
    if one is None:
        return f"{study['paper']}."
    names = [f"{who['given-names']} {who['family-names']}" for who in one["authors"]]
    return f"{', '.join(names)} ({one['year']}). {one['title']}. {study['paper']}."
