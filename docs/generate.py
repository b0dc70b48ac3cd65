"""Fill the generated parts of the pages: ``make docs``, or ``python docs/generate.py [RESULTS]``.

A part stands between ``<!-- name -->`` and ``<!-- /name -->``, perhaps with a study after the name,
and is made from the schemas, the rules, the configuration of the studies or the claims of the
documented run, which lies in ``docs/evidence``. Given a folder of results, that run becomes it; a
run in a folder named ``real`` or ``seizures`` is documented in a folder of that name beside it, one
in a folder named ``default`` in ``docs/default``: its verdicts stand where the larger run has none.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from patchwork import claims as rules_of_claims
from patchwork import show
from patchwork.figures import claims as drawings
from patchwork.figures import theme
from patchwork.jobs import starts
from patchwork.tables import schemas

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "docs/evidence"
REAL = ROOT / "docs/real"
SEIZURES = ROOT / "docs/seizures"
DEFAULT = ROOT / "docs/default"
NOT_RUN = "No run of this is documented yet."
# What is kept of a run, if it is not larger than this.
KEPT = (
    "claims.csv", "claims.html", "claims/*", "*/findings/*.csv", "*/*/findings.csv",
    "*/tables/*.csv", "*/figures/*.png",
)  # fmt: skip
KEPT_MB = 1
# Of the default run, which `make` repeats, its numbers are enough.
KEPT_OF_DEFAULT = ("claims.csv", "*/findings/*.csv", "*/*/findings.csv")
PAGES = ("README.md", "config/README.md", "docs/*.md", "docs/studies/*.md")
PART = re.compile(r"<!-- (?P<name>\w+)(?: (?P<of>\w+))? -->\n.*?<!-- /(?P=name) -->", re.DOTALL)
BRANCHES = ("oneOf", "allOf")


@cache
def read(path: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / path).read_text())


def study_of(name: str) -> dict[str, Any]:
    """The configuration of a study at the default scale."""
    return read(f"config/studies/{name}.yaml")["studies"][name]


def row(*cells: Any) -> str:
    """One row of a table in Markdown."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def table(head: tuple[str, ...], rows: list[tuple]) -> str:
    """A table in Markdown."""
    return "\n".join([row(*head), "|" + "---|" * len(head), *(row(*cells) for cells in rows)])


# Keys of the configuration -----------------------------------------------------------------------


def resolve(node: dict[str, Any], file: str) -> tuple[dict[str, Any], str, str]:
    """What a node refers to, under its own description if it has one; the file; the name there."""
    name = ""
    while "$ref" in node:
        path, _, inside = node["$ref"].partition("#")
        file = path or file
        target = read(f"workflow/schemas/{file}")
        for key in filter(None, inside.split("/")):
            target = target[key]
        name = inside.rsplit("/", 1)[-1] or file.split(".")[0]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref" and value}}
    return node, file, name


def allowed(node: dict[str, Any]) -> str:
    """The values that a node allows, in words."""
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{'null' if one is None else one}`" for one in node["enum"])
    if "oneOf" in node and "type" not in node:
        return " or ".join(dict.fromkeys(allowed(one) for one in node["oneOf"]))
    kinds = node.get("type", "block")
    kind = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    if kind == "array":
        return f"list of {allowed(node.get('items', {}))}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"names to {allowed(node['additionalProperties'])}"
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to",
              "exclusiveMaximum": "below"}  # fmt: skip
    bounds = [f"{word} {node[key]}" for key, word in limits.items() if key in node]
    return " ".join([kind, *bounds])


def children(node: dict[str, Any], file: str) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Key below the node, what it holds, and whether it must be there."""
    branches = [resolve(one, file)[0] for branch in BRANCHES for one in node.get(branch, ())]
    branches += [node[key] for key in ("then", "else") if key in node]
    for part in [node, *branches]:
        for key, child in part.get("properties", {}).items():
            if isinstance(child, dict) and part.get("type") == "object":
                yield f".{key}", child, key in part.get("required", ())
    if isinstance(node.get("additionalProperties"), dict):
        yield ".`<name>`", node["additionalProperties"], False
    if isinstance(node.get("items"), dict):
        yield "[]", node["items"], False


def walk(
    node: dict[str, Any], file: str, prefix: str, sections: dict[str, tuple[dict[str, Any], str]]
) -> Iterator[tuple[str, str, str, str]]:
    """Rows of all keys below a node; what has a name of its own becomes a section."""
    for key, child, needed in children(node, file):
        found, where, name = resolve(child, file)
        path = f"{prefix}{key}".lstrip(".")
        below = list(children(found, where))
        link = ""
        if name and any(found_key != "[]" for found_key, _, _ in below):
            sections.setdefault(name, (resolve({**child, "description": None}, file)[0], where))
            link = f"see [{name}](#{name})"
        described = found.get("description") or found.get("title", "")
        if key[-1] not in "]`" or link or (described and key != "[]"):
            yield path, "yes" if needed else "", link or allowed(found), described
        if not link:
            yield from walk(found, where, path, sections)


def keys(_: str) -> str:
    """Every key of the configuration, one section for each block that has a name."""
    root = read("workflow/schemas/config.schema.yaml")
    sections: dict[str, tuple] = {"configuration": (root, "config.schema.yaml")}
    text, done = [], set()
    while left := [name for name in sections if name not in done]:
        name = left[0]
        node, file = sections[name]
        done.add(name)
        says = node.get("description") or node.get("title") or ""
        rows = [(f"`{path.replace('`', '')}`", *rest) for path, *rest in
                walk(node, file, "", sections)]  # fmt: skip
        head = ("key", "required", "values", "meaning")
        says = says[:1].upper() + says[1:].rstrip(".") + "."
        text.append(f"### {name}\n\n{says}\n\n{table(head, rows)}")
    return "\n\n".join(text)


# Rules -------------------------------------------------------------------------------------------


def rules(_: str) -> str:
    """What each file of rules does, from its first line, and the rules in it."""
    rows = []
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = path.read_text()
        named = re.findall(r"^rule (\w+):", text, re.MULTILINE)
        if named:
            head = text.splitlines()[0].removeprefix("# ")
            listed = ", ".join(f"`{name}`" for name in named)
            rows.append((f"[{path.stem}](../workflow/rules/{path.name})", head, listed))
    return table(("file", "what it does", "rules"), rows)


# Studies -----------------------------------------------------------------------------------------


def figures(study: str) -> str:
    """The figures that a study draws, with the captions of the configuration."""
    block = study_of(study)
    rows = [(f"`{name}`", one.get("caption", "")) for name, one in block.get("figures", {}).items()]
    if "samples" in block:
        rows.append(("`samples`", "Test images of each dataset with their labels."))
    if "rearing_conditions" in block:
        rows.append(("`rearing_conditions`", "Views of the same pictures in every condition."))
    if "networks" in block:
        rows += [(f"`{name}`", "") for name in block["networks"]["figures"]]
    if not any(caption for _, caption in rows):
        return ", ".join(name for name, _ in rows)
    return table(("figure", "what it shows"), rows)


def protocols(study: str) -> str:
    """What each protocol of a study reads, trains and predicts."""
    rows = []
    for name, one in study_of(study)["protocols"].items():
        adapter = one["adapter"]
        kind = f"LoRA, rank {adapter['rank']}" if adapter["kind"] == "lora" else adapter["kind"]
        targets = [f"{key} ({value['encoding']})" for key, value in one["targets"].items()]
        chosen = one.get("selected_on", "validation")
        rows.append((f"`{name}`", one["readout"], kind, ", ".join(targets), chosen))
    head = ("protocol", "read-out", "encoder trains", "targets (encoding)", "epoch chosen on")
    return table(head, rows)


def region(bounds: list[float | None]) -> str:
    """An interval in words."""
    low, high = bounds
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def decisions(study: str) -> str:
    """The decision rules of a study's claims, as config/claims.yaml states them."""
    rows = []
    for claim, one in read("config/claims.yaml")["claims"].items():
        for i, rule in enumerate(one["decisions"] if one["study"] == study else ()):
            if "kind" in rule:
                cells = (f"{rule['kind']}: {rule['reason']}", "", f"`{rule['proved_by']}`", "", "")
                rows.append((f"**{claim}**" if not i else "", rule["protocol"], *cells))
                continue
            control = (rule.get("control") or {}).get("description", "")
            survives = region(rule["survives"]) if rule.get("survives") else ""
            planted = rule.get("positive_control", {}).get("description", "none: it cannot fail")
            unit = rule.get("unit", "")
            rows.append((f"**{claim}**" if not i else "", rule["protocol"],
                         f"`{rule['quantity']}`", f"{region(rule['claimed'])} {unit}".strip(),
                         control, survives, planted))  # fmt: skip
    head = ("claim", "protocol", "estimate", "claimed region", "control", "its region", "planted")
    return table(head, rows)


# Claims of the documented run --------------------------------------------------------------------


def decided(mark: str = "") -> pd.DataFrame:
    """Claims of the documented run, and of the default run where that one has not run.

    Args:
        mark: column in which rows of the default run get an asterisk.
    """
    known = pd.read_csv(EVIDENCE / "claims.csv")
    if not (DEFAULT / "claims.csv").is_file():
        return known
    smaller = pd.read_csv(DEFAULT / "claims.csv")
    keys = [(f["claim"], f["protocol"], f.groupby(["claim", "protocol"]).cumcount())
            for f in (known, smaller)]  # fmt: skip
    known, smaller = (f.set_index(pd.MultiIndex.from_arrays(k))
                      for f, k in zip((known, smaller), keys, strict=True))  # fmt: skip
    done = known[known["verdict"] != "not_run"]
    small = ~smaller.index.isin(done.index)
    both = smaller.astype(object)
    both.loc[~small] = done.reindex(both.index[~small])[both.columns].astype(object)
    if mark:
        computed = ~both["verdict"].isin(["identity", "not_run"]).to_numpy()
        both.loc[small & computed, mark] += "*"
    return both.reset_index(drop=True).infer_objects()


def counts(_: str) -> str:
    """One sentence: how many verdicts of each kind."""
    known = decided()
    found = known["verdict"].value_counts()
    listed = [f"{n} *{show.spoken(verdict)}*" for verdict, n in found.items()]
    said = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else listed[0]
    return (
        f"In the documented runs, {known['claim'].nunique()} claims of {known['study'].nunique()} "
        f"studies got {len(known)} verdicts, one per claim and protocol: {said}. "
        f"{rules_of_claims.multiplicity(known)}"
    )


def documented(folder: str) -> str:
    """Where the documented runs come from; `folder` is docs for a page outside of it."""
    text = origin(EVIDENCE, folder)
    if not (DEFAULT / "claims.csv").is_file():
        return text
    smaller = origin(DEFAULT, folder).replace("The documented run", "The default run")
    return f"{text}\n\nVerdicts with an asterisk are those of the smaller default run. {smaller}"


def origin(kept: Path, folder: str) -> str:
    """When, from what, where and for how long a run was made whose results are kept there."""
    if not (kept / "provenance.json").is_file():
        return NOT_RUN
    known = json.loads((kept / "provenance.json").read_text())
    began, seeds = known["starts"], known["starts"][-1]["seeds"]
    commits = " and ".join(dict.fromkeys(f"`{str(one['commit'])[:10]}`" for one in began))
    machines = "; ".join(dict.fromkeys(
        f"{one['cores']} cores of {one['cpu']}, {'bf16' if one['bf16'] else 'fp32'}"
        for one in began
    ))  # fmt: skip
    ran = ", ".join(f"{name} ({len(values)})" for name, values in seeds.items())
    every = {one["study"] for one in read("config/claims.yaml")["claims"].values()}
    missing = ", ".join(sorted(every - set(seeds))) or "none"
    days = " to ".join(dict.fromkeys(began[i]["utc"][:10] for i in (0, -1)))
    link = f"{folder}/{kept.name}/provenance.json".lstrip("/")
    return (
        f"The documented run is of {days}, from commit {commits}, on {machines}; "
        f"{sum(known['core_hours'].values()):.1f} core-hours. Studies, with their number of seeds: "
        f"{ran}. Not run: {missing}. More: [provenance]({link})."
    )


def claims(study: str) -> str:
    """Verdicts by protocol, of all claims or of a study's."""
    known = decided("verdict")
    return "\n".join(show.markdown(known[known["study"] == study] if study else known))


def intervals(study: str) -> str:
    """Estimates, intervals and controls, of all claims or of a study's."""
    known = decided("verdict")
    return "\n".join(show.markdown_full(known[known["study"] == study] if study else known))


# A network that others trained -------------------------------------------------------------------


def kept_run(name: str) -> str:
    """Where a run comes from whose results are kept in the folder of this name in docs."""
    return origin(ROOT / "docs" / name, "")


def kept_claims(name: str) -> str:
    """Estimates, intervals and controls of the claims that such a run decided."""
    kept = ROOT / "docs" / name
    if not (kept / "claims.csv").is_file():
        return NOT_RUN
    known = pd.read_csv(kept / "claims.csv")
    ran = json.loads((kept / "provenance.json").read_text())["starts"][-1]["seeds"]
    known = known[known["study"].isin(ran) & (known["verdict"] != "not_run")]
    return "\n".join(show.markdown_full(known))


def seizures_transfer(_: str) -> str:
    """Scores of the start time by what was trained on, beside methods that learn nothing."""
    path = SEIZURES / "chirps/tables/transfer.csv"
    if not path.is_file():
        return NOT_RUN
    known = pd.read_csv(path).dropna(subset="estimate")
    rows = []
    for (backbone, dataset), part in known.groupby(["backbone", "dataset"], sort=False):
        name = f"networks trained on `{dataset}`" if backbone == "pretrained" else f"`{backbone}`"
        found = part.set_index("metric")[["estimate", "ci_low", "ci_high"]]
        cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*found.loc[key]) if key in found.index else ""
                 for key in ("pearson_r", "slope", "bias", "mae"))  # fmt: skip
        rows.append((name, *cells))
    picture = "![Predicted against true start times](seizures/chirps/figures/transfer.png)"
    rows = list({row[0]: row for row in rows}.values())  # baselines are the same for each dataset
    heads = ("method", "r", "slope", "bias (s)", "mean absolute error (s)")
    return f"{picture}\n\n{table(heads, rows)}"


def real_depth(_: str) -> str:
    """Read-out error and waves of the error by block and read-out, upright and turned."""
    path = REAL / "lines/tables/bias_by_depth.csv"
    if not path.is_file():
        return NOT_RUN
    known = pd.read_csv(path)
    known = known[known["backbone"] == "pretrained"].set_index(["readout", "block"])
    shown = [("error", "upright"), ("oblique_minus_cardinal", "upright"),
             ("oblique_minus_cardinal", "turned"), ("oblique_minus_cardinal_picture", "both"),
             ("oblique_minus_cardinal_lattice", "both"),
             ("vertical_minus_horizontal", "upright")]  # fmt: skip
    rows = []
    for (readout, block), part in known.groupby(level=(0, 1), sort=True):
        found = part.set_index(["quantity", "view"])
        cells = (found.loc[key, ["estimate", "ci_low", "ci_high"]] for key in shown)
        place = {"cls": "class token", "mean": "mean token"}[readout]
        rows.append((place, block, *("{:.2f} [{:.2f}, {:.2f}]".format(*cell) for cell in cells)))
    names = ["error", "4-cycle, upright", "4-cycle, turned", "of the picture", "of the lattice",
             "2-cycle, upright"]  # fmt: skip
    picture = "![Orientation error and bias by depth](real/lines/figures/bias_by_depth.png)"
    return f"{picture}\n\n{table(('read-out', 'block', *names), rows)}"


# Tables ------------------------------------------------------------------------------------------


def tables(_: str) -> str:
    """Every table that the workflow writes: what a row is, its columns and what they mean."""
    text = []
    for file, schema in schemas().items():
        rows = [
            (f"`{name}`{' (optional)' * (name in schema.optional)}", meaning)
            for name, meaning in schema.columns.items()
        ]
        text += [f"### `{file}`", f"One row: {schema.rows}.", table(("column", "meaning"), rows)]
        if schema.others:
            text.append(f"Further columns: {' '.join(schema.others.split())}.")
    return "\n\n".join(text)


PARTS: dict[str, Callable[[str], str]] = {
    one.__name__: one
    for one in (
        claims,
        counts,
        decisions,
        documented,
        figures,
        intervals,
        kept_claims,
        kept_run,
        keys,
        protocols,
        real_depth,
        rules,
        seizures_transfer,
        tables,
    )
}


def filled(text: str) -> str:
    """A page with its generated parts as they should be."""

    def part(match: re.Match) -> str:
        name, of = match["name"], match["of"] or ""
        head = f"{name} {of}".strip()
        return f"<!-- {head} -->\n{PARTS[name](of)}\n<!-- /{name} -->"

    return PART.sub(part, text)


def pages() -> list[Path]:
    """The pages that may have generated parts."""
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def draw_rules() -> None:
    """The graph of all rules, with those that are run by name alone."""
    # The recording only has to exist, and nothing is fetched.
    source = {"kind": "pubmed", "query": "epilepsy", "from_day": "2020/01/01",
              "to_day": "2020/01/02", "n_max": 1}  # fmt: skip
    fetched = {"vocabulary": 300, "validation_share": 0.1, "source": source}
    more = {
        "run": sorted(path.stem for path in (ROOT / "config/studies").glob("*.yaml")),
        "studies": {
            "chirps": {"recordings": {"files": {"any": "README.md"}}},
            "clap": {"language": {"datasets": {"pubmed": fetched}}},
        },
    }
    targets = ["all", "localise_chirps", "results/chirps/ridge/data/README.md",
               "results/clap/pubmed/data/abstracts.parquet",
               "results/chirps/seizures/data/test.h5"]  # fmt: skip
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(more, file)
        file.flush()
        said = [_rule_graph(file.name, targets)]
    said += [_rule_graph(f"config/scales/{name}.yaml", ["all"]) for name in ("real", "seizures")]
    # Snakemake numbers rules in another order each time; sorted, the picture stays as it is.
    rules, arrows = set(), set()
    for text in said:
        names = dict(re.findall(r'(\d+)\[label = "(\w+)"', text))
        rules |= set(names.values())
        arrows |= {f"{names[a]} -> {names[b]};" for a, b in re.findall(r"(\d+) -> (\d+)", text)}
    style = "node [shape=box, style=rounded, fontname=sans, fontsize=10]; edge [color=grey];"
    graph = "\n".join(["digraph {", style, *sorted(rules), *sorted(arrows), "}"])
    subprocess.run(["dot", "-Tsvg", "-o", ROOT / "docs/figures/rulegraph.svg"], input=graph,
                   text=True, check=True)  # fmt: skip


def _rule_graph(file: str, targets: list[str]) -> str:
    snakemake = [sys.executable, "-m", "snakemake", "--rulegraph", "dot", "--forceall",
                 "--quiet", "all", "--configfile", file, "--", *targets]  # fmt: skip
    return subprocess.run(snakemake, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def core_hours(results: Path) -> dict[str, float]:
    """Hours of CPU of a run's jobs, by study."""
    spent: dict[str, float] = {}
    for file in sorted((results / "logs").rglob("*.log")):
        study = file.relative_to(results / "logs").parts[0].removesuffix(".log")
        for seconds in re.findall(r"([\d.]+) s of CPU, ", file.read_text()):
            spent[study] = spent.get(study, 0.0) + float(seconds) / 3600
    return {name: round(hours, 3) for name, hours in spent.items()}


def document(results: Path) -> None:
    """Make a run the documented one: its claims, tables, figures and where they come from."""
    folder = {one.name: one for one in (REAL, SEIZURES, DEFAULT)}.get(results.name, EVIDENCE)
    patterns = KEPT_OF_DEFAULT if folder == DEFAULT else KEPT
    shutil.rmtree(folder, ignore_errors=True)
    large = []
    for file in sorted({one for pattern in patterns for one in results.glob(pattern)}):
        name = file.relative_to(results)
        if file.stat().st_size > KEPT_MB * 1e6:
            large.append(str(name))
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    made = {"starts": starts.read(results), "core_hours": core_hours(results),
              "too_large_to_keep": large}  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(made, indent=1) + "\n")


def main(results: str = "") -> None:
    """Write every page and picture; `results` is the folder of a run to be documented."""
    if results:
        document(Path(results))
        print("now read what is said of the documented run: README.md, docs/claims.md, "
              "docs/performance.md, docs/studies")  # fmt: skip
    for path in pages():
        path.write_text(filled(path.read_text()))
    stem = ROOT / "docs/figures/claims"
    svg, _ = theme.save(drawings.claims_picture(decided("protocol")), stem)
    svg.unlink()
    if shutil.which("dot"):
        draw_rules()
    else:
        print("docs/figures/rulegraph.svg is left as it is: dot of Graphviz is not on the path")


if __name__ == "__main__":
    main(*sys.argv[1:2])
