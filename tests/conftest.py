"""What peers change in torch for good must not reach the next test; the table of faults."""

import os
from pathlib import Path

import pytest
import torch

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


@pytest.fixture(autouse=True)
def torch_stays_as_it_was():
    """nnsight replaces ``Tensor.backward`` when it is imported; others switch gradients off."""
    backward, gradients = torch.Tensor.backward, torch.is_grad_enabled()
    yield
    torch.Tensor.backward = backward
    torch.set_grad_enabled(gradients)


@pytest.fixture
def tried(request):
    """Note what was done to the workflow or a reader, and what became of it."""
    return lambda fault, outcome: request.node.user_properties.append(("tried", (fault, outcome)))


def pytest_terminal_summary(terminalreporter, config):
    """Print the table of faults; a run of all of them writes it where FAULTS_TABLE says."""
    if config.option.markexpr != "faults":
        return
    stats = terminalreporter.stats
    rows = [
        value
        for report in stats.get("passed", [])
        if report.when == "call"
        for name, value in report.user_properties
        if name == "tried"
    ]
    rows += [(one.nodeid, "**failed**") for one in stats.get("failed", []) + stats.get("error", [])]
    rows += [(one.nodeid, f"not tried: {one.longrepr[2]}") for one in stats.get("skipped", [])]
    lines = ["| Fault | What became of it |", "|---|---|"]
    lines += [f"| {fault} | {outcome} |" for fault, outcome in sorted(map(tuple, rows))]
    terminalreporter.write_sep("=", "faults that were tried")
    terminalreporter.write_line("\n".join(lines))
    if page := os.environ.get("FAULTS_TABLE"):
        before, _, rest = Path(page).read_text().partition(BEGIN)
        table = "\n".join([BEGIN, *lines, END])
        Path(page).write_text(before + table + rest.partition(END)[2])
