"""Outputs of a rule in a folder of the tests, named as the rule names them."""

import re
from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "workflow/rules"
_FILE = re.compile(r'(\w+)=(?:\w+\(\s*)?"([^"]*/[^"]*)"')
_CONDITION = "study/dataset/backbone/protocol"


def outputs_of(rule: str, folder: Path) -> dict[str, str]:
    """Keyword to path below the folder; a wildcard has its own name, a seed is 0."""
    text = "\n".join(path.read_text() for path in sorted(RULES.glob("*.smk")))
    block = text.split(f"\nrule {rule}:\n")[1].split("\n    output:\n")[1]
    found = {}
    for name, path in _FILE.findall(re.split(r"\n    \w+:", block)[0]):
        for variable, value in (("<condition>", _CONDITION), ("<run>", f"{_CONDITION}/seed0")):
            path = path.replace(variable, value)
        path = re.sub(r"\{seed(,[^}]*)?\}", "0", path)
        plain = re.sub(r"\{(\w+)\}", r"\1", path)
        found[name] = str(folder / plain.partition("/")[2])
        Path(found[name]).parent.mkdir(parents=True, exist_ok=True)
    return found
