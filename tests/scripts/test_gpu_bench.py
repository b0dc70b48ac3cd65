"""`make bench-gpu` on small shapes of a CPU: every row is there, and effects agree."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_table_of_sweeps_runs_on_a_cpu(tmp_path):
    out = tmp_path / "table.json"
    command = [sys.executable, "benchmarks/gpu_check.py", "--device", "cpu", "--tiny", "--only",
               "facts", "heads", "patching", "--out", str(out)]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=900)
    sections = json.loads(out.read_text())["sections"]
    assert list(sections) == ["facts", "heads", "patching"]
    assert not any(section["error"] for section in sections.values())
    rows = [row for name in ("heads", "patching") for row in sections[name]["rows"]]
    measures = {row["measure"]: row for row in rows}
    agreeing = [row for name, row in measures.items() if "CPU against GPU" in name]
    assert len(agreeing) == 3
    assert all(row["ratio"].startswith("within") for row in agreeing)
    for size in ("small", "base"):
        for precision in ("fp32", "bf16"):
            assert any(name.startswith(f"{size} {precision}, zero") for name in measures)
    for method in ("fp32", "bf16", "relp, fp32"):
        assert f"8 pairs of 4 tokens, attribution, {method}" in measures


def test_a_machine_without_a_gpu_is_told(tmp_path):
    command = [sys.executable, "benchmarks/gpu_check.py", "--out", str(tmp_path / "x.json")]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120,
                           env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""})  # fmt: skip
    assert found.returncode == 1
    assert "this machine shows none" in found.stderr
