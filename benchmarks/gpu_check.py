"""What a GPU gives: tests marked gpu, rates, shares of its peak, deviations from the CPU.

make gpu-check
python benchmarks/gpu_check.py --out FILE.json [--minutes 8] [--only NAME ...]
python benchmarks/gpu_check.py --table FILE.json

Weights are random. Sections do not depend on each other: one that fails is one line, in the table
and in the file, and the others go on. `--device cpu --tiny` tries every section on small shapes.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "workflow" / "lib")]
# Read when CUDA starts: products then give equal bits each time, as in a job that leases a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def table(results: dict) -> str:
    """All rows as one Markdown table."""
    facts = results["machine"]
    lines = [
        f"{facts['device']}, {facts['cores']} cores, torch {facts['torch']}; "
        f"{results['seconds']:.0f} s" + ("; tiny shapes" if results["tiny"] else ""),
        "",
        "| section | measure | value | beside | ratio or share |",
        "|---|---|---|---|---|",
    ]
    for name, section in results["sections"].items():
        for row in section["rows"]:
            cells = [row.get(key) for key in ("measure", "value", "beside", "ratio")]
            lines.append(f"| {name} | " + " | ".join(_cell(cell) for cell in cells) + " |")
        if section.get("error"):
            lines.append(f"| {name} | failed | {section['error']} | | |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _write(results: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    partial.replace(path)


def run(options: argparse.Namespace) -> dict:
    """Every section within its share of the time, each result written as soon as it is there."""
    import gpu_sections as sections

    started = time.monotonic()
    setup = sections.Setup(options.device, options.tiny)
    results: dict = {
        "machine": setup.machine(), "tiny": options.tiny, "seconds": 0.0, "sections": {},
    }  # fmt: skip
    chosen = [share for name, (_, share) in sections.SECTIONS.items()
              if not options.only or name in options.only]  # fmt: skip
    # A few sections have all of the time.
    scale = max(options.minutes / 8, 60 * options.minutes / sum(chosen))
    for name, (section, budget) in sections.SECTIONS.items():
        if options.only and name not in options.only:
            continue
        left = 60 * options.minutes - (time.monotonic() - started)
        found: dict = {"rows": [], "error": ""}
        results["sections"][name] = found
        if left < 10:
            found["error"] = "left out: no time"
        else:
            _section(setup, section, min(budget * scale, left), found)
        results["seconds"] = round(time.monotonic() - started, 1)
        _write(results, options.out)
        print(f"\n== {name}: {found.get('seconds', 0):.1f} s", flush=True)
        print(table({**results, "sections": {name: found}}).split("\n", 2)[2], flush=True)
    return results


def _section(setup, section, budget: float, found: dict) -> None:
    started = time.monotonic()
    try:
        # Rows are kept as they come, so that a failure leaves those before it.
        for row in section(setup, started + budget):
            found["rows"].append(row)
    except Exception as error:
        text = " ".join(str(error).split())
        found["error"] = f"{type(error).__name__}: {text}"[:300]
    finally:
        found["seconds"] = round(time.monotonic() - started, 1)
        setup.clear()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "gpu" / "gpu_check.json")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small shapes")
    parser.add_argument("--only", nargs="*", default=[], help="sections")
    parser.add_argument("--table", type=Path, help="print the table of a file and end")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return 0
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: device is cuda; this machine shows none: run it where one is, or try "
              "--device cpu --tiny", file=sys.stderr)  # fmt: skip
        return 1
    results = run(options)
    print("\n" + table(results), flush=True)
    found = results["sections"].values()
    beyond = [row for section in found for row in section["rows"]
              if str(row.get("ratio")).startswith("beyond")]  # fmt: skip
    return int(bool(beyond) or any(section["error"] for section in found))


if __name__ == "__main__":
    sys.exit(main())
