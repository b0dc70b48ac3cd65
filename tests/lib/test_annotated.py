import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from patchwork.data import annotated, store
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/scripts"))

import gather_annotated

COLUMNS = {
    "picture": "image_file", "start_s": "from", "end_s": "to", "low_hz": "low", "high_hz": "high",
}  # fmt: skip
SETTINGS = {
    "columns": COLUMNS,
    "recording": r"^(\d+)_",
    "augmented": "_augment",
    "axes": {"time_s": [0, 60], "frequency_hz": [1, 60]},
    "shares": {"validation": 0.2, "test": 0.3},
    "seed": 3,
    "white_frame": False,
}
BOX = [["start_s", "end_s", "low_hz", "high_hz"]]


def boxes(*rows):
    table = pd.DataFrame(rows, columns=list(COLUMNS.values()))
    return annotated.read_boxes(table.to_csv(index=False).encode(), "boxes.csv", COLUMNS)


def test_a_box_that_was_saved_again_with_the_next_counts_once():
    first, second = ("1_a.png", 5, 9, 10, 20), ("1_a.png", 1, 2, 3, 4)
    found = boxes(first, first, second, first, second, ("1_b.png", 7, 8, 1, 2))
    assert found["picture"].tolist() == ["1_a.png", "1_a.png", "1_b.png"]
    assert found[BOX[0]].to_numpy().tolist() == [[5, 9, 10, 20], [1, 2, 3, 4], [7, 8, 1, 2]]


def test_clicks_are_no_boxes_and_empty_pictures_stay():
    none = [None] * 4
    found = boxes(
        ("empty.png", *none), ("both.png", *none), ("both.png", 1, 2, 3, 4),
        ("clicked.png", 5, 5, 8, 8), ("both.png", 6, 6, 9, 9),
    )  # fmt: skip
    assert sorted(found["picture"]) == ["both.png", "empty.png"]
    assert found.set_index("picture").loc["empty.png"].isna().all()


def names(n_recordings=20, n_each=4):
    kinds = ["ch1", "ch1_augment1", "ch2", "ch2_augment1"][:n_each]
    return [f"{100 + i}_{i}.5_{kind}.png" for i in range(n_recordings) for kind in kinds]


def found(**changes):
    rows = [(name, 10, 20, 5, 15) for name in names()]
    return annotated.find(SETTINGS | changes, names(), boxes(*rows))


def test_no_recording_is_in_two_splits():
    pictures = found().pictures
    splits = pictures.groupby("recording")["split"].nunique()
    assert (splits == 1).all()
    counts = pictures.groupby("split")["recording"].nunique()
    assert counts.to_dict() == {"train": 10, "validation": 4, "test": 6}
    assert pictures["augmented"].mean() == 0.5
    other = found(seed=4).pictures
    assert (other["split"] != pictures["split"]).any()
    pd.testing.assert_frame_equal(pictures, found().pictures)


def test_the_largest_box_counts_and_pictures_without_a_row_are_left_out():
    table = boxes(
        ("100_0.5_ch1.png", 1, 3, 1, 3), ("100_0.5_ch1.png", 10, 20, 5, 15),
        ("101_1.5_ch1.png", None, None, None, None),
    )  # fmt: skip
    known = annotated.find(SETTINGS, names(), table)
    assert sum(known.left_out.values()) == 78
    rows = known.pictures.set_index("picture")
    assert rows.loc["100_0.5_ch1.png", BOX[0]].tolist() == [10, 20, 5, 15]
    assert rows["n_boxes"].tolist() == [2, 0]
    assert rows["present"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recording": "^x(.)"}, "'100_0.5_ch1.png' does not have it"),
        ({"recording": "^(1)"}, "1 recordings are there; allowed are 3 or more"),
        ({"shares": {"validation": 0.5, "test": 0.5}}, "leave none of 20 recordings"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, said):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        found(**changes)
    assert said in str(error.value)


def png(level):
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def source(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(names()):
        (tmp_path / "pictures" / name).write_bytes(png(i))
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    rows = [(name, i / 10, 20, 5, 15) for i, name in enumerate(names()[:-1])]
    rows.append((names()[-1], None, None, None, None))
    table = pd.DataFrame(rows, columns=list(COLUMNS.values()))
    table.to_excel(tmp_path / "boxes.xlsx", index=False)
    return {"kind": "folder", "folder": str(tmp_path / "pictures"),
            "table": str(tmp_path / "boxes.xlsx")}  # fmt: skip


def test_a_folder_becomes_three_files_whose_labels_go_with_their_pictures(source, tmp_path):
    outputs = {split: str(tmp_path / f"{split}.h5") for split in annotated.SPLITS}
    gather_annotated.main(
        settings=SETTINGS | {"source": source}, image_px=16, outputs=outputs, code="test"
    )
    levels, recordings = [], []
    for path in outputs.values():
        batch = store.read(path)
        assert batch.images.shape[1:] == (16, 16, 3)
        level = batch.images[:, 0, 0, 0].astype(int)
        present = batch.labels["present"] == 1
        np.testing.assert_allclose(batch.labels["start_s"][present], level[present] / 10)
        np.testing.assert_allclose(batch.labels["duration_s"][present], 20 - level[present] / 10)
        assert np.isnan(batch.labels["start_s"][~present]).all()
        assert (batch.labels["recording"] == level // 4).all()
        levels += level.tolist()
        recordings += np.unique(batch.labels["recording"]).tolist()
    assert sorted(levels) == list(range(80))
    assert sorted(recordings) == list(range(20))
    with store.Reader(outputs["test"]) as reader:
        assert reader.label_attributes["recording"].names[3] == "103"
        assert reader.label_attributes["start_s"].units == "s"


def test_a_white_frame_is_cut_off_and_the_axes_are_whole():
    framed = np.full((20, 30, 3), 255, np.uint8)
    framed[3:13, 8:24] = np.linspace(0, 200, 16, dtype=np.uint8)[None, :, None]
    out = io.BytesIO()
    Image.fromarray(framed).save(out, "PNG")
    part = found().pictures.iloc[:1]
    (batch,) = annotated.batches(part, ["100"], lambda _: out.getvalue(), 16, white_frame=True)
    assert batch.images[0, 5, 0, 0] < 10
    assert batch.images[0, 5, -1, 0] > 190
    assert batch.images.max() < 240
    with pytest.raises(ValueError, match="is white all over"):
        list(annotated.batches(part, ["100"], lambda _: png(255), 16, white_frame=True))


def test_what_is_not_there_or_no_picture_is_named(source, tmp_path):
    settings = SETTINGS | {"source": source | {"table": str(tmp_path / "none.csv")}}
    outputs = {split: str(tmp_path / f"{split}.h5") for split in annotated.SPLITS}
    with pytest.raises(ValueError, match=r"annotated.source.table is .*none.csv"):
        gather_annotated.main(settings=settings, image_px=16, outputs=outputs, code="test")
    (tmp_path / "pictures" / names()[0]).write_bytes(b"half a picture")
    settings = SETTINGS | {"source": source}
    with pytest.raises(ValueError, match=rf"{names()[0]}: not a readable picture"):
        gather_annotated.main(settings=settings, image_px=16, outputs=outputs, code="test")
    with pytest.raises(ValueError, match="lacks the column 'missing'"):
        annotated.read_boxes(b"a\n1\n", "boxes.csv", {"picture": "missing"})
