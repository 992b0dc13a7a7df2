import numpy as np
import pytest
from PIL import Image

from densehead.apis.analysis.sheets import FORMATS, SheetWriter, Tally
from tests.analysis.sheet.records import by_hand, scene


@pytest.fixture
def street():
    records = {
        "GFLHead": by_hand([[0, 0, 30, 30], [50, 50, 60, 60]], [(0, 0, 0.5), (1, 0, 1.0)]),
        "a longer name": by_hand([[0, 0, 30, 30], [50, 50, 60, 60]], [(0, 0, 0.5)] * 1200),
    }
    return scene(records)


@pytest.mark.parametrize("format", FORMATS)
def test_sheets_are_called_as_their_images(tmp_path, street, format):
    writer = SheetWriter(tmp_path / "new", levels=False, columns=1, format=format)
    paths = [writer.write(street) for _ in range(3)]
    names = [f"street.{format}", f"street_2.{format}", f"street_3.{format}"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    if format == "png":
        sheet = np.asarray(Image.open(paths[0]))
        assert sheet.shape[0] > 3 * 255
        assert np.array_equal(sheet, np.asarray(Image.open(paths[1])))


def test_another_run_replaces_sheets(tmp_path, street):
    first = SheetWriter(tmp_path, levels=False).write(street)
    before = first.read_bytes()
    assert SheetWriter(tmp_path).write(street) == first
    assert first.read_bytes() != before


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="--format must be one of png, pdf, svg, but got 'bmp'"):
        SheetWriter(tmp_path, format="bmp")
    with pytest.raises(ValueError, match="--columns must be at least 1, but got 0"):
        SheetWriter(tmp_path, columns=0)
    with pytest.raises(ValueError, match="--panel-side must be at least 16, but got 3"):
        SheetWriter(tmp_path, panel_side=3)


def test_what_was_shown_is_counted(street):
    tally = Tally()
    tally.add(street)
    tally.add(street)
    assert tally.table().splitlines() == [
        "2 images      | objects | positives | per object | without any",
        "--------------+---------+-----------+------------+------------",
        "GFLHead       |       4 |         4 |        1.0 |           2",
        "a longer name |       4 |     2,400 |      600.0 |           2",
    ]
    empty = Tally()
    empty.add(scene({"head": by_hand(np.zeros((0, 4)), [])}))
    assert empty.table().splitlines()[2] == "head    |       0 |         0 |          - |           0"
