from __future__ import annotations

import pytest

from densehead.datasets import VOCDataset, XMLDataset
from densehead.datasets import xml_style as module

SIZE = "<size><width>80</width><height>60</height><depth>3</depth></size>"
CLASSES = ("cat", "dog")


def thing(name="cat", box=(1, 2, 30, 40), difficult=None):
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    sides = "".join(
        f"<{side}>{x}</{side}>" for side, x in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True) if x is not None
    )
    return f"<object><name>{name}</name>{flag}<bndbox>{sides}</bndbox></object>"


@pytest.fixture
def voc(tmp_path):
    """Write XML files in the layout of VOC and return the keys of the data set that reads them."""

    def write(xml, listed=None, classes=CLASSES, **keys):
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        for name, text in xml.items():
            (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        (tmp_path / "list.txt").write_text("\n".join(xml) + "\n" if listed is None else listed)
        usual = {"data_root": str(tmp_path), "ann_file": "list.txt", "serialize_data": False}
        return {**usual, "metainfo": {"classes": classes}, **keys}

    return write


def one(*things, size=SIZE, name="a"):
    return {name: f"<annotation><filename>other.png</filename>{size}{''.join(things)}</annotation>"}


def test_coordinates_count_from_1_and_difficult_is_ignored(voc, tmp_path):
    keys = voc(one(thing(), thing("dog", (11, 12.7, "20.0", 22), difficult=1), thing("dog", difficult=0)))
    dataset = XMLDataset(**keys)
    assert dataset.get_data_info(0) == {
        "img_path": str(tmp_path / "JPEGImages" / "a.jpg"),
        "img_id": "a",
        "xml_path": str(tmp_path / "Annotations" / "a.xml"),
        "height": 60,
        "width": 80,
        "sample_idx": 0,
        "instances": [
            {"bbox": [0, 1, 29, 39], "bbox_label": 0, "ignore_flag": 0},
            {"bbox": [10, 11, 19, 21], "bbox_label": 1, "ignore_flag": 1},
            {"bbox": [0, 1, 29, 39], "bbox_label": 1, "ignore_flag": 0},
        ],
    }
    assert dataset.cat2label == {"cat": 0, "dog": 1}
    assert dataset.get_cat_ids(0) == [0, 1, 1]


def test_folders_have_mmdetections_keys(voc, tmp_path):
    keys = voc(one(thing()), data_root=str(tmp_path.parent), ann_file=f"{tmp_path.name}/list.txt")
    dataset = XMLDataset(
        **keys, data_prefix={"sub_data_root": tmp_path.name}, img_subdir="images", ann_subdir="Annotations"
    )
    assert dataset.sub_data_root == str(tmp_path)
    assert dataset.get_data_info(0)["img_path"] == str(tmp_path / "images" / "a.jpg")


def test_small_boxes_are_ignored_in_training(voc):
    keys = voc(one(thing(box=(1, 1, 40, 20)), thing(box=(1, 1, 34, 34))), filter_cfg={"bbox_min_size": 32})
    assert [i["ignore_flag"] for i in XMLDataset(**keys).get_data_info(0)["instances"]] == [1, 0]
    with pytest.raises(ValueError, match="bbox_min_size is for training"):
        XMLDataset(**keys, test_mode=True)


def test_filter_leaves_out_images(voc):
    xml = {**one(thing()), **one(name="b"), **one(thing(), size=SIZE.replace("60", "20"), name="c")}
    dataset = XMLDataset(**voc(xml, filter_cfg={"filter_empty_gt": True, "min_size": 32}))
    assert [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))] == ["a"]


def test_voc_names_its_year(voc, tmp_path):
    keys = voc(one(thing("person")), classes=VOCDataset.METAINFO["classes"])
    assert len(VOCDataset.METAINFO["classes"]) == 20
    assert VOCDataset(**keys).metainfo["dataset_type"] is None
    (tmp_path / "VOC2007").symlink_to(tmp_path)
    assert VOCDataset(**keys, data_prefix={"sub_data_root": "VOC2007/"}).metainfo["dataset_type"] == "VOC2007"


def test_classes_must_be_given(voc):
    keys = voc(one(thing()))
    del keys["metainfo"]
    with pytest.raises(ValueError, match="metainfo has no 'classes'"):
        XMLDataset(**keys)


def test_unknown_names_are_counted_and_absent_classes_named(voc, said):
    dataset = XMLDataset(**voc(one(thing(), thing("bird"), thing("bird")), classes=("cat", "horse")))
    assert len(dataset.get_data_info(0)["instances"]) == 1
    assert len(said) == 2
    assert "'horse'" in said[0]
    assert "'bird' (2)" in said[1]


def test_classes_that_match_none_are_an_error_with_both_lists(voc):
    with pytest.raises(ValueError, match=r"(?s)list\.txt.*'Cat', 'Dog'.*'cat', 'dog'"):
        XMLDataset(**voc(one(thing(), thing("dog")), classes=("Cat", "Dog")))


def test_odd_boxes_are_said_once(voc, said):
    boxes = [(5, 5, 5, 5), (30, 30, 20, 40), ("nan", 1, 5, 5), (0, 0, 20, 20), (70, 50, 100, 100)]
    dataset = XMLDataset(**voc(one(*(thing(box=box) for box in boxes)), classes=("cat",)))
    assert [i["bbox"] for i in dataset.get_data_info(0)["instances"]] == [[0, 0, 19, 19], [69, 49, 80, 60]]
    assert len(said) == 1
    assert "dropped 3 of 5 boxes: 1 with NaN" in said[0]
    assert "a.jpg': [4.0, 4.0, 4.0, 4.0]" in said[0]
    assert "clipped 1" in said[0]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("<annotation><size>", r"a\.xml: is no valid XML \(no element found: line 1, column 18\)"),
        ("", r"a\.xml: is no valid XML"),
        (one("<object></object>")["a"], r"a\.xml: object 0 has no <name>"),
        (
            one(thing(), thing("dog", (1, 2, None, 4)))["a"],
            r"a\.xml: object 1 \('dog'\) .* <bndbox><xmax>, but has None",
        ),
        (one(thing(box=(1, "two", 3, 4)))["a"], r"a\.xml: object 0 \('cat'\) .* <bndbox><ymin>, but has 'two'"),
        (one(thing(difficult="maybe"))["a"], r"a\.xml: object 0 \('cat'\) .* 0 or 1 in <difficult>, but has 'maybe'"),
        (one(thing(), size="")["a"], r"a\.xml: has no <size> .* image .*a\.jpg cannot be read"),
    ],
)
def test_a_bad_xml_file_is_named(voc, xml, message):
    with pytest.raises(ValueError, match=message):
        XMLDataset(**voc({"a": xml}))


def test_missing_files_are_named(voc):
    keys = voc(one(thing()), listed="a\nb\n")
    with pytest.raises(FileNotFoundError, match=r"b\.xml: no such file; .*list\.txt lists the image 'b'"):
        XMLDataset(**keys)
    with pytest.raises(FileNotFoundError, match=r"ann_file='.*lst\.txt' is not a file\. Did you mean 'list\.txt'"):
        XMLDataset(**{**keys, "ann_file": "lst.txt"})
    with pytest.raises(ValueError, match=r"list\.txt: is empty"):
        XMLDataset(**voc({}, listed="\n"))


def test_an_image_listed_twice_is_refused(voc):
    with pytest.raises(ValueError, match=r"list\.txt: the image id 'a' must occur once.*RepeatDataset"):
        XMLDataset(**voc(one(thing()), listed="a\na\n"))


def test_no_image_left_is_an_error(voc):
    with pytest.raises(ValueError, match="no image is left of 1"):
        XMLDataset(**voc(one(), filter_cfg={"filter_empty_gt": True}))


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_the_image_tells_its_size_where_the_xml_does_not(voc, picture, tmp_path, size):
    picture(tmp_path / "JPEGImages" / "a.jpg", 33, 44)
    info = XMLDataset(**voc(one(thing(), size=size))).get_data_info(0)
    assert (info["height"], info["width"]) == (33, 44)


def test_without_a_list_every_xml_file_is_read(voc, tmp_path):
    (tmp_path / "Annotations" / "sub").mkdir(parents=True)
    keys = voc({**one(thing()), **one(thing("dog"), name="sub/a")}, ann_file="")
    dataset = XMLDataset(**keys)
    assert [dataset.get_data_info(i)["img_id"] for i in range(2)] == ["a", "sub/a"]
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(ValueError, match=r"JPEGImages: there is no XML file in it"):
        XMLDataset(**keys, ann_subdir="JPEGImages")
    with pytest.raises(FileNotFoundError, match=r"ann_subdir='.*xml' is not a folder.* holds: 'Annotations'"):
        XMLDataset(**keys, ann_subdir="xml")


def test_equal_names_in_several_folders_are_not_mixed_up(voc, picture, tmp_path):
    xml = one(thing())["a"].replace("other.png", "a.png")
    (tmp_path / "Annotations" / "sub").mkdir(parents=True)
    for folder in ("JPEGImages", "JPEGImages/sub"):
        picture(tmp_path / folder / "a.png")
    dataset = XMLDataset(**voc({"a": xml, "sub/a": xml}))
    paths = [dataset.get_data_info(i)["img_path"] for i in range(2)]
    assert paths == [str(tmp_path / "JPEGImages" / "a.png"), str(tmp_path / "JPEGImages" / "sub" / "a.png")]


def test_images_are_not_opened_where_the_xml_has_the_size(voc, monkeypatch):
    monkeypatch.setattr(module, "loaded_size", None)
    assert len(XMLDataset(**voc(one(thing())))) == 1


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "other.png"])
def test_images_of_other_names_are_found(voc, picture, tmp_path, name):
    picture(tmp_path / "JPEGImages" / name)
    assert XMLDataset(**voc(one(thing()))).get_data_info(0)["img_path"] == str(tmp_path / "JPEGImages" / name)


def test_an_id_that_no_file_can_have_is_refused(voc):
    """Found by fuzzing."""
    with pytest.raises(ValueError, match=r"Annotations/a{5000}\.xml: cannot be read: File name too long"):
        XMLDataset(**voc(one(thing()), listed="a" * 5000))
