"""One direction: configuration, rules, scripts, library. Nothing points back."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "workflow/lib/patchwork"
MODULES = sorted(LIBRARY.rglob("*.py"))
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
RULES = sorted((ROOT / "workflow/rules").glob("*.smk"))
STUDIES = [path.stem for path in (ROOT / "config/studies").glob("*.yaml")]


def imported(path: Path) -> set[str]:
    """Every module that a file imports, with its full name; not what only its types need."""
    names, tree = set(), ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reached(path: Path) -> set[str]:
    """Every module that a file imports, directly or through the library."""
    seen, waiting, names = set(), [path], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for name in imported(one):
            names.add(name)
            waiting += files_of(name)
    return names


def files_of(name: str) -> list[Path]:
    """The library's files that an import runs: the module and every package above it."""
    parts = name.split(".") if name.split(".")[0] == LIBRARY.name else []
    bases = [LIBRARY.parent.joinpath(*parts[: i + 1]) for i in range(len(parts))]
    files = [file for base in bases for file in (base.with_suffix(".py"), base / "__init__.py")]
    return [file for file in files if file.is_file()]


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def of_figures_and_statistics() -> list[Path]:
    return [p for p in MODULES if {"figures", "statistics"} & set(p.relative_to(LIBRARY).parts)]


def test_the_library_knows_neither_workflow_nor_configuration_files():
    wrong = [path for path in MODULES if top(imported(path)) & {"snakemake", "yaml"}]
    assert MODULES
    assert wrong == []


def test_figures_and_statistics_never_reach_torch():
    wrong = [path for path in of_figures_and_statistics() if "torch" in top(reached(path))]
    assert wrong == []


def test_figures_and_statistics_run_without_torch():
    # What syntax trees cannot see: imports by other libraries, and imports by name.
    names = sorted(
        ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts)
        for path in of_figures_and_statistics()
    )
    assert names
    code = f"import sys, {', '.join(names)}; sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_scripts_read_call_and_write():
    stems = {script.stem for script in SCRIPTS}
    for path in SCRIPTS:
        names, text = imported(path), path.read_text()
        assert not top(names) & stems, path
        assert "argparse" not in names, path
        body, main = text.split('if __name__ == "__main__":')
        body = re.sub(r'""".*?"""', "", body, flags=re.DOTALL)
        assert "snakemake" not in body, path
        assert "job_log(snakemake.log[0])" in main, path
        assert "__future__" not in text, path


def test_every_rule_has_its_script_and_every_script_its_rule():
    text = "\n".join(path.read_text() for path in RULES)
    rules = set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
    used = set(re.findall(r'"\.\./scripts/(\w+)\.py"', text))
    assert rules == used == {path.stem for path in SCRIPTS}
    # A file holds rules or functions, never both, so a rule ends where the next one starts.
    files = [re.split(r"^rule ", path.read_text(), flags=re.MULTILINE) for path in RULES]
    for block in (block for _, *blocks in files for block in blocks):
        for word in ("log:", "threads:", "resources:", "mem_mb", "runtime", "conda:"):
            assert word in block, (block.split(":")[0], word)
        assert "lambda" not in block
        assert not re.search(r"^\s+run:", block, re.MULTILINE)


def test_the_snakefile_decides_nothing():
    snakefile = (ROOT / "Snakefile").read_text()
    code = re.sub(r"#.*", "", snakefile)
    assert not re.search(r"\b(def|if|else|lambda)\b", code)


def test_no_code_names_a_study():
    for path in [*MODULES, *SCRIPTS, *RULES, ROOT / "Snakefile"]:
        text = path.read_text()
        assert not re.search(r"study\s*==", text), path
        for study in STUDIES:
            assert f'"{study}/' not in text, path
            assert f"results/{study}" not in text, path


def test_nothing_is_unpickled_or_evaluated():
    for path in [*MODULES, *SCRIPTS]:
        tree = ast.parse(path.read_text())
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & {"eval", "exec", "torch.load", "pickle.load", "yaml.load", "np.load"}
        assert not top(imported(path)) & {"pickle", "dill", "joblib", "cloudpickle"}


def test_configuration_says_nothing_about_machines():
    for path in (ROOT / "config").rglob("*.yaml"):
        keys = set(re.findall(r"(\w+):", path.read_text()))
        assert not keys & {"threads", "cores", "mem_mb", "partition", "output"}, path
        yaml.safe_load(path.read_text())


def test_no_code_writes_to_a_folder_of_one_machine():
    for path in [
        *MODULES,
        *SCRIPTS,
        *RULES,
        ROOT / "Snakefile",
        *(ROOT / "config").rglob("*.yaml"),
    ]:
        assert not re.search(r"""["'\s](?:/tmp|/scratch|/mnt|/work|~)/""", path.read_text()), path
