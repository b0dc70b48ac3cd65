"""The pages agree with what they are made from, and their links lead somewhere."""

import importlib.util
import json
import re

import pytest
import yaml
from projects import ROOT

PAGES = [
    *ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md"),
]  # fmt: skip
PAGES = [page for page in PAGES if ".venv" not in page.parts and "results" not in page.parts[-2]]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_as_make_docs_would_write_them(generate):
    pages = generate.pages()
    assert {"README.md", "claims.md", "lines.md"} <= {page.name for page in pages}
    stale = [
        str(p.relative_to(ROOT)) for p in pages if generate.filled(p.read_text()) != p.read_text()
    ]
    assert not stale, f"run make docs: {stale}"


def test_a_part_that_differs_is_filled_anew(generate):
    old = "before\n<!-- rules -->\nold\n<!-- /rules -->\nafter"
    new = generate.filled(old)
    assert "old" not in new
    assert "`fine_tune`" in new
    assert new.startswith("before\n")
    assert new.endswith("\nafter")
    assert generate.filled(new) == new


def test_a_run_is_documented_with_its_tables_figures_and_origin(generate, tmp_path, monkeypatch):
    results, kept = tmp_path / "evidence", tmp_path / "docs/evidence"
    files = {
        "claims.csv": "claim\n", "lines/findings/metrics.csv": "a\n", "lines/figures/one.png": "p",
        "lines/figures/one.svg": "s", "lines/angle/random/described/predictions.parquet": "x",
        "lines/tables/large.csv": "0" * 1_100_000, "stability/actuator/findings.csv": "b\n",
        "logs/lines/a.log": "read\n9.0 s, 7000.0 s of CPU, 9 MiB at most\n",
        "logs/lines/b/c.log": "9.0 s, 200.0 s of CPU, 9 MiB at most\n",
        "starts.jsonl": '{"utc": "2026-01-01", "seeds": {"lines": [1000]}}\n',
    }  # fmt: skip
    for name, text in files.items():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(text)
    (kept / "old").mkdir(parents=True)
    monkeypatch.setattr(generate, "EVIDENCE", kept)
    generate.document(results)
    assert {str(p.relative_to(kept)) for p in kept.rglob("*") if p.is_file()} == {
        "claims.csv", "lines/findings/metrics.csv", "lines/figures/one.png",
        "stability/actuator/findings.csv", "provenance.json",
    }  # fmt: skip
    assert yaml.safe_load((kept / "provenance.json").read_text()) == {
        "starts": [{"utc": "2026-01-01", "seeds": {"lines": [1000]}}],
        "core_hours": {"lines": 2.0}, "too_large_to_keep": ["lines/tables/large.csv"],
    }  # fmt: skip
    origin = yaml.safe_load((kept / "provenance.json").read_text())
    origin["starts"] = [
        {"utc": f"2026-01-0{day}T01:00", "commit": "0123456789abcdef", "cores": 4, "cpu": "A",
         "bf16": day == 2, "seeds": {"lines": [1000, 1001]}} for day in (1, 2)
    ]  # fmt: skip
    (kept / "provenance.json").write_text(json.dumps(origin))
    said = generate.documented("")
    assert "of 2026-01-01 to 2026-01-02, from commit `0123456789`, on 4 cores of A, fp32; " in said
    assert "4 cores of A, bf16; 2.0 core-hours" in said
    assert "lines (2). Not run: chirps, " in said


def test_every_key_of_the_schemas_is_listed_with_its_meaning(generate):
    page = generate.keys("")
    rows = re.findall(r"^\| `(.+?)` \|.*\| (.*) \|$", page, re.MULTILINE)
    assert [key for key, meaning in rows if not meaning] == []
    listed = {part.strip("[]") for key, _ in rows for part in key.split(".")}

    def keys(node):
        if isinstance(node, dict):
            named = node.get("properties")
            yield from named if isinstance(named, dict) else ()
            for child in node.values():
                yield from keys(child)
        elif isinstance(node, list):
            for child in node:
                yield from keys(child)

    for path in (ROOT / "workflow/schemas").glob("*.yaml"):
        # `if`, `then` and the branches of oneOf name keys again that stand beside them.
        assert set(keys(yaml.safe_load(path.read_text()))) <= listed, path.name


def test_the_rule_graph_shows_every_rule():
    drawn = set(re.findall(r">(\w+)</text>", (ROOT / "docs/figures/rulegraph.svg").read_text()))
    files = [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    named = {n for f in files for n in re.findall(r"^rule (\w+):", f.read_text(), re.MULTILINE)}
    assert drawn == named, "run make docs where Graphviz is installed"


def anchors(page) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page, link)
            assert not anchor or anchor in anchors(target), (page, link)


def test_every_study_has_a_page_with_its_claims():
    for path in (ROOT / "config/studies").glob("*.yaml"):
        page = (ROOT / f"docs/studies/{path.stem}.md").read_text()
        for part in ("figures", "decisions", "intervals"):
            assert f"<!-- {part} {path.stem} -->" in page, (path.stem, part)


def test_the_catalog_of_workflows_finds_what_it_reads():
    shown = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    assert set(shown["usage"]) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert (ROOT / "config/README.md").is_file()
