import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "interventions.md"
EXAMPLES = re.findall(r"^## (.+?)\n.*?```python\n(.*?)```", PAGE.read_text(), re.S | re.M)


def test_the_page_has_six_examples():
    assert len(EXAMPLES) == 6


@pytest.mark.parametrize(("title", "code"), EXAMPLES, ids=lambda text: text[:25])
def test_example_runs(title, code):
    exec(compile(code, title, "exec"), {"__name__": "example"})
    plt.close("all")
