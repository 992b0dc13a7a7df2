"""Annotation files that name files outside of their data root."""

import os

import pytest

from densehead.datasets import CocoDataset, XMLDataset
from densehead.datasets.folders import require_inside
from tests.datasets.small import write_coco, write_text, write_voc, xml_of

META = {"classes": ("cat", "dog")}
OUT = ["../../secret.jpg", "/etc/passwd", "a/../../../x.jpg", "a\0b.jpg"]


def coco(root, name, **keys):
    write_coco(root / "ann.json", ["inside.jpg", name])
    usual = {"data_root": str(root), "ann_file": "ann.json", "data_prefix": {"img": "img"}, "metainfo": META}
    return CocoDataset(**{**usual, **keys}, serialize_data=False)


@pytest.mark.parametrize("name", OUT)
def test_coco_names_must_stay_inside(tmp_path, name):
    with pytest.raises(ValueError, match=r"ann\.json: .* lies outside of the folder '.*'.*allow_outside=True"):
        coco(tmp_path, name)


def test_coco_names_may_go_where_the_root_is_or_where_that_is_allowed(tmp_path):
    for name in ("../other/a.jpg", "a/../b.jpg", "..a..jpg", str(tmp_path / "img" / "a.jpg")):
        assert coco(tmp_path, name)[1]["img_path"] == os.path.join(tmp_path, "img", name)
    for name in OUT[:3]:
        assert len(coco(tmp_path, name, allow_outside=True)) == 2


def test_without_a_root_the_folder_of_the_images_counts(tmp_path):
    keys = {"data_root": None, "ann_file": str(tmp_path / "ann.json"), "data_prefix": {"img": str(tmp_path / "img")}}
    assert len(coco(tmp_path, "a/../b.jpg", **keys)) == 2
    with pytest.raises(ValueError, match=r"'\.\./b\.jpg' lies outside of the folder '.*img'"):
        coco(tmp_path, "../b.jpg", **keys)


def test_storage_elsewhere_has_roots_too():
    require_inside(["a.jpg", "b/../c.jpg"], "s3://bucket/img", "data", "ann.json")
    with pytest.raises(ValueError, match="lies outside"):
        require_inside(["../../other/c.jpg"], "s3://bucket/img", "data", "ann.json")
    with pytest.raises(ValueError, match="lies outside"):
        require_inside(["http://example.org/a.jpg"], "", "", "ann.json")


@pytest.mark.parametrize("name", [*OUT[:1], "/etc/passwd", "a/../../../x"])
def test_ids_of_voc_must_stay_inside(tmp_path, name):
    write_voc(tmp_path, {"train": ["a"]})
    write_text(tmp_path / "list.txt", f"a\n{name}\n")
    keys = {"data_root": str(tmp_path), "ann_file": "list.txt", "metainfo": META, "serialize_data": False}
    with pytest.raises(ValueError, match=r"list\.txt: .* lies outside of the folder '.*'.*allow_outside=True"):
        XMLDataset(**keys)
    with pytest.raises(FileNotFoundError):
        XMLDataset(**keys, allow_outside=True)


def test_the_file_name_of_an_xml_file_leads_nowhere(tmp_path):
    write_text(tmp_path / "Annotations" / "a.xml", xml_of("../../../etc/passwd"))
    dataset = XMLDataset(data_root=str(tmp_path), metainfo=META, serialize_data=False)
    assert dataset[0]["img_path"] == str(tmp_path / "JPEGImages" / "a.jpg")


def test_entities_are_not_blown_up(tmp_path):
    """A kilobyte of XML that stands for gigabytes, and one that stands for another file."""
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 20}">' for i in range(1, 12))
    bombs = {
        "laughs": f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}]><annotation><filename>&a11;</filename></annotation>',
        "other": '<!DOCTYPE a [<!ENTITY e SYSTEM "/etc/passwd">]><annotation><filename>&e;</filename></annotation>',
    }
    for name, text in bombs.items():
        write_text(tmp_path / name / "Annotations" / "a.xml", text)
        with pytest.raises(ValueError, match=r"a\.xml: is no valid XML"):
            XMLDataset(data_root=str(tmp_path / name), metainfo=META, serialize_data=False)
