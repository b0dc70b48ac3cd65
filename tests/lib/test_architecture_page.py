"""docs/architectures.md says what running the table of architectures gives."""

from pathlib import Path

import architecture_models as models
import architecture_page as written
import pytest
import torch
import transformers
from patchwork.models import sites

PAGE = (Path(__file__).parents[2] / "docs" / "architectures.md").read_text().splitlines()


@pytest.mark.parametrize("name", written.CASES)
def test_the_page_holds_what_works_how(name):
    cells, notes = written.row(name)
    assert written.line(cells) in PAGE, "run make docs"
    starts = tuple(f"- {name}, {column}: " for column in cells)
    own = [x for x in PAGE if x.startswith(starts)]
    assert own == [written.note(name, *item) for item in notes.items()], "run make docs"


def test_the_page_holds_no_more_than_the_table():
    n_rows = sum(x.startswith("| ") for x in PAGE) - 2  # two heads
    assert n_rows == len(written.CASES) + len(models.REFUSED)
    for model_type in models.REFUSED:
        assert written.refusal(model_type) in PAGE, "run make docs"


def test_every_model_type_of_the_table_has_a_row():
    types = {kind for family in sites.FAMILIES.values() for kind in family.model_types or ()}
    cells = {x.split(" | ")[1] for x in PAGE if x.startswith("| ") and x.count(" | ") > 3}
    assert types <= cells


def test_the_encoder_of_vit_mae_runs_as_a_vit():
    config = transformers.ViTMAEConfig(**models.IMAGE, mask_ratio=0.0)
    torch.manual_seed(0)
    mae = transformers.ViTMAEModel(config).eval()
    vit = transformers.ViTModel(transformers.ViTConfig(**models.IMAGE), add_pooling_layer=False)
    vit.load_state_dict(mae.state_dict())
    images, order = models.inputs("vit", n=2), torch.arange(4.0).expand(2, 4)
    with torch.no_grad():
        want = mae(images, noise=order).last_hidden_state
        assert torch.allclose(vit.eval()(images).last_hidden_state, want, atol=1e-5)
    assert sites.find(vit).n_prefix == 1
