"""One fault of each kind, planted in a data set without: it is named, and nothing else is."""

import json
import shutil

import cv2
import numpy as np
import pytest

from densehead.analysis.doctor import ADVICE, expectation
from densehead.apis.doctor import FOUND, DoctorOptions, report
from tests.analysis.doctor.scenes import CLASSES, IMAGES, SIDE, picture
from tests.analysis.doctor.test_config_faults import FAULTS

T, V = "train", "val"


def keep_entry(entries, index, **keys):
    entries[index].update(keys)


def append_annotation(content, **keys):
    content["annotations"].append({**content["annotations"][5], "id": 99, **keys})


# ---- what all forms can have wrong: (checks by split, what is planted) -------------------------------------------


def missing_image(scene):
    scene.image(T, 3).unlink()


def cut_off_image(scene):
    path = scene.image(T, 3)
    path.write_bytes(path.read_bytes()[:900])


def no_image(scene):
    scene.image(T, 3).write_text("this is no image")


def empty_file(scene):
    scene.image(V, 3).write_bytes(b"")


def other_size(scene):
    cv2.imwrite(str(scene.image(T, 3)), picture("x", 2 * SIDE, SIDE))


def copied_image(scene):
    shutil.copy(scene.image(T, 3), scene.image(T, 7))


def leaked_image(scene):
    shutil.copy(scene.image(T, 3), scene.image(V, 7))


def box_without_extent(scene):
    scene.add(T, 3, "cat", (50, 50, 0, 10))


def box_outside(scene):
    scene.add(T, 3, "cat", (SIDE + 5, 20, 10, 12))


def box_reaching_out(scene):
    scene.add(T, 4, "cat", (SIDE - 12, 20, 20, 12))


def box_twice(scene):
    name, box = "cat", (2, 3, LONG[2], LONG[2] // 2 + 4)
    scene.add(T, 4, name, box)


def box_nearly_twice(scene):
    name, box = "cat", (4, 3, LONG[2], LONG[2] // 2 + 4)
    scene.add(T, 4, name, box)


def box_of_two_classes(scene):
    scene.add(T, 4, "dog", (2, 3, LONG[2], LONG[2] // 2 + 4))


LONG = {2: 40}  # the length of the first object of image 4


def tiny_object(scene):
    scene.add(T, 4, "cat", (60, 20, 6, 7))


def left_out_category(scene):
    scene.add(T, 4, "bird", (60, 20, 10, 12))


def class_without_objects(scene):
    for split in (T, V):
        dataset = scene.cfg[f"{split}_dataloader"].dataset
        dataset.metainfo.classes = (*CLASSES, "horse")
    scene.cfg.model.bbox_head.num_classes = 3


def classes_of_other_names(scene):
    scene.cfg.train_dataloader.dataset.metainfo.classes = ("Cat", "Dog")
    scene.cfg.val_dataloader.dataset.metainfo.classes = ("Cat", "Dog")


def classes_in_another_order(scene):
    scene.cfg.val_dataloader.dataset.metainfo.classes = CLASSES[::-1]


def wrong_num_classes(scene):
    scene.cfg.model.bbox_head.num_classes = 3


def rare_class(scene):
    scene.add(T, 4, "bird", (60, 20, 10, 12))
    scene.add(V, 4, "bird", (60, 20, 10, 12))
    for split in (T, V):
        scene.cfg[f"{split}_dataloader"].dataset.metainfo.classes = (*CLASSES, "bird")
    scene.cfg.model.bbox_head.num_classes = 3


def images_filtered_away(scene):
    scene.cfg.train_dataloader.dataset.filter_cfg = {"min_size": 2 * SIDE}


def no_annotation_file(scene):
    scene.cfg.val_dataloader.dataset.ann_file = "nothing.json"


def gap_between_ranges(scene):
    scene.cfg.model.bbox_head.regress_ranges = ((-1, 8), (12, 16), (16, 25), (25, 1e8))


def level_without_objects(scene):
    scene.cfg.model.bbox_head.regress_ranges = ((-1, 1), (1, 16), (16, 25), (25, 1e8))


def coarsest_level_without_objects(scene):
    scene.cfg.model.bbox_head.regress_ranges = ((-1, 8), (8, 16), (16, 90), (90, 1e8))


def smaller_in_validation(scene):
    scene.cfg.val_dataloader.dataset.pipeline.insert(1, {"type": "Resize", "scale": (SIDE // 3, SIDE // 3)})


EACH = [
    ({("image-missing", T): "ERROR"}, missing_image),
    ({("image-truncated", T): "ERROR"}, cut_off_image),
    ({("image-unreadable", T): "ERROR"}, no_image),
    ({("image-unreadable", V): "ERROR"}, empty_file),
    ({("image-size", T): "ERROR"}, other_size),
    ({("image-twice", T): "WARNING"}, copied_image),
    ({("leak", V): "ERROR"}, leaked_image),
    ({("box-empty", T): "WARNING"}, box_without_extent),
    ({("box-outside", T): "WARNING"}, box_outside),
    ({("box-clipped", T): "WARNING"}, box_reaching_out),
    ({("box-twice", T): "WARNING"}, box_twice),
    ({("box-near-twice", T): "WARNING"}, box_nearly_twice),
    ({("box-two-classes", T): "WARNING"}, box_of_two_classes),
    ({("object-tiny", T): "WARNING"}, tiny_object),
    ({("category-unnamed", T): "WARNING"}, left_out_category),
    ({("class-absent", T): "WARNING", ("class-absent", V): "NOTE"}, class_without_objects),
    ({("classes-none", T): "ERROR", ("classes-none", V): "ERROR"}, classes_of_other_names),
    ({("classes-differ", V): "ERROR"}, classes_in_another_order),
    ({("num-classes", T): "ERROR", ("num-classes", V): "ERROR"}, wrong_num_classes),
    ({("class-rare", T): "WARNING"}, rare_class),
    ({("no-image-left", T): "ERROR"}, images_filtered_away),
    ({("annotation-file", V): "ERROR"}, no_annotation_file),
    ({("level-gap", T): "ERROR", ("level-empty", T): "WARNING"}, gap_between_ranges),
    ({("level-empty", T): "WARNING"}, level_without_objects),
    ({("level-empty", T): "NOTE"}, coarsest_level_without_objects),
    ({("scale-shift", V): "WARNING"}, smaller_in_validation),
]


@pytest.mark.parametrize(("expected", "plant"), EACH, ids=[plant.__name__ for _, plant in EACH])
def test_planted_in_each_form(scene, look, expected, plant):
    plant(scene)
    if scene.form == "yolo" and plant is other_size:  # whose boxes are parts of the image, whatever its size
        expected = {}
    found = look(scene)
    assert {key: one.severity.name for key, one in found.items()} == expected


# ---- what only one of them can ------------------------------------------------------------------------------------

FILE_TWICE = {("file-twice", T): "WARNING", ("no-objects", T): "NOTE"}
COCO = [
    ({("box-nan", T): "WARNING"}, lambda c: keep_entry(c["annotations"], 5, bbox=[1, 2, float("nan"), 4])),
    ({("box-empty", T): "WARNING"}, lambda c: keep_entry(c["annotations"], 5, area=0)),
    ({("annotation-entry", T): "ERROR"}, lambda c: c["annotations"][5].pop("bbox")),
    ({("annotation-entry", T): "ERROR"}, lambda c: keep_entry(c["annotations"], 5, bbox=[1, 2, 3])),
    ({("annotation-entry", T): "ERROR"}, lambda c: keep_entry(c["annotations"], 5, bbox=[1, 2, "wide", 3])),
    ({("annotation-entry", T): "ERROR"}, lambda c: keep_entry(c["images"], 5, height=0)),
    ({("annotation-entry", T): "ERROR", ("stray-annotation", T): "WARNING"}, lambda c: c["images"][5].pop("file_name")),
    ({("id-twice", T): "ERROR"}, lambda c: keep_entry(c["annotations"], 5, id=1)),
    ({("id-twice", T): "ERROR", **FILE_TWICE}, lambda c: c["images"].append(c["images"][5])),
    (FILE_TWICE, lambda c: c["images"].append({**c["images"][5], "id": 99})),
    ({("stray-annotation", T): "WARNING"}, lambda c: append_annotation(c, image_id=99)),
    ({("unknown-category", T): "WARNING"}, lambda c: append_annotation(c, category_id=9)),
    ({("no-objects", T): "NOTE"}, lambda c: c.update(annotations=c["annotations"][2:])),
    ({("annotation-file", T): "ERROR"}, lambda c: c.pop("images")),
    ({("box-format", T): "ERROR"}, lambda c: as_corners(c["annotations"])),
    ({("box-format", T): "ERROR"}, lambda c: as_fractions(c["annotations"])),
]  # fmt: skip


def as_corners(annotations):
    for one in annotations:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x, y, x + width, y + height]


def as_fractions(annotations):
    for one in annotations:
        one["bbox"] = [side / SIDE for side in one["bbox"]]
        one.pop("area")


@pytest.mark.parametrize(("expected", "change"), COCO, ids=[f"{next(iter(e))[0]}{i}" for i, (e, _) in enumerate(COCO)])
def test_planted_in_coco(coco, look, expected, change):
    coco.edit(T, change)
    found = look(coco)
    assert {key: one.severity.name for key, one in found.items()} == expected


def test_every_bad_entry_is_counted(coco, look):
    """The data set itself stops at the first."""

    def change(content):
        for index in (1, 4, 9):
            content["annotations"][index]["bbox"] = [1, 2]
        content["annotations"][6] = "nothing"

    coco.edit(T, change)
    (found,) = look(coco).values()
    assert (found.count, found.total) == (4, 48)
    assert [example.detail[:14] for example in found.examples] == [f"annotations[{i}]" for i in (1, 4, 6, 9)]


def test_a_file_that_is_no_json(coco, look):
    coco.ann_file(T).write_text('{"images": [')
    found = look(coco)
    assert set(found) == {("annotation-file", T)}
    assert "is no valid JSON at line 1" in found["annotation-file", T].examples[0].detail


VOC = [
    ({("xml-missing", T): "ERROR"}, lambda scene: scene.xml(T, 3).unlink()),
    ({("xml-broken", T): "ERROR"}, lambda scene: scene.xml(T, 3).write_text("<annotation><size>")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: replace(scene.xml(T, 4), "<name>cat</name>", "")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: replace(scene.xml(T, 4), "<xmin>3<", "<xmin>wide<")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: replace(scene.xml(T, 4), "<difficult>0", "<difficult>maybe")),
    ({("box-nan", T): "WARNING"}, lambda scene: replace(scene.xml(T, 4), "<xmin>3<", "<xmin>nan<")),
    ({("id-twice", T): "ERROR"}, lambda scene: replace(scene.ann_file(T), "train5", "train3\ntrain5")),
    ({("annotation-file", T): "ERROR"}, lambda scene: scene.ann_file(T).write_text("\n")),
    ({}, lambda scene: replace(scene.xml(T, 4), f"<width>{SIDE}</width>", "")),  # the image tells its size
]  # fmt: skip


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_xml_files_without_a_list(voc, look):
    """All those in a folder."""
    for split, count in IMAGES.items():
        for index in range(count):
            (voc.root / split).mkdir(exist_ok=True)
            voc.xml(split, index).rename(voc.root / split / f"{split}{index}.xml")
        voc.cfg[f"{split}_dataloader"].dataset.update(ann_file="", ann_subdir=split)
    assert not look(voc)
    (voc.root / T / "train3.xml").write_text("<annotation>")
    assert set(look(voc)) == {("xml-broken", T)}


@pytest.mark.parametrize(("expected", "plant"), VOC)
def test_planted_in_voc(voc, look, expected, plant):
    plant(voc)
    found = look(voc)
    assert {key: one.severity.name for key, one in found.items()} == expected


NAMELESS = {(check, split): "ERROR" for check in ("annotation-file", "num-classes") for split in (T, V)}
YOLO = [
    ({("annotation-entry", T): "ERROR"}, lambda scene: add_line(scene, "0 0.5 0.5 0.2\n")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: add_line(scene, "cat 0.5 0.5 0.2 0.2\n")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: add_line(scene, "0 50 50 20 20\n")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: add_line(scene, "2 0.5 0.5 0.2 0.2\n")),
    ({("annotation-entry", T): "ERROR"}, lambda scene: no_text(scene.label_file(T, 4))),
    ({("box-nan", T): "WARNING"}, lambda scene: add_line(scene, "0 nan 0.5 0.2 0.2\n")),
    ({("no-objects", T): "NOTE"}, lambda scene: scene.label_file(T, 4).unlink()),
    ({("annotation-file", T): "ERROR"}, lambda scene: scene.ann_file(T).write_text("\n")),
    ({("annotation-file", T): "ERROR"}, lambda scene: [scene.label_file(T, i).unlink() for i in range(24)]),
    (NAMELESS, lambda scene: nameless(scene)),
    ({("stray-annotation", T): "WARNING", ("stray-annotation", V): "WARNING"}, lambda scene: stray_label(scene)),
]  # fmt: skip


def add_line(scene, line):
    with scene.label_file(T, 4).open("a") as file:
        file.write(line)


def no_text(path):
    path.write_bytes(b"\xff\xfe\x00\xd8")


def nameless(scene):
    (scene.root / "classes.txt").unlink()
    for split in (T, V):
        scene.cfg[f"{split}_dataloader"].dataset.pop("metainfo")


def stray_label(scene):
    """Images and labels in folders of their own, and a label of neither."""
    for split, count in IMAGES.items():
        for kind in ("images", "labels"):
            (scene.root / kind / split).mkdir(parents=True)
        for index in range(count):
            scene.image(split, index).rename(scene.root / "images" / split / f"{index}.jpg")
            scene.label_file(split, index).rename(scene.root / "labels" / split / f"{index}.txt")
        (scene.root / "labels" / split / "99.txt").write_text("")
        scene.cfg[f"{split}_dataloader"].dataset.update(ann_file="", data_prefix={"img": f"images/{split}"})


@pytest.mark.parametrize(("expected", "plant"), YOLO)
def test_planted_in_yolo(yolo, look, expected, plant):
    plant(yolo)
    found = look(yolo)
    assert {key: one.severity.name for key, one in found.items()} == expected


def test_every_bad_line_is_named(yolo, look):
    add_line(yolo, "0 0.5 0.5 0.2\n\ncat 0.5 0.5 0.2 0.2\n")
    (found,) = look(yolo).values()
    assert (found.count, found.total) == (2, 50)
    assert [(one.file, one.item) for one in found.examples] == [
        (str(yolo.label_file(T, 4)), "line 3"),
        (str(yolo.label_file(T, 4)), "line 5"),
    ]


# ---- the same image in both sets, other kinds of copies ------------------------------------------------------------


def test_an_image_that_is_listed_for_training_and_validation(voc, look):
    voc.ann_file(V).write_text(voc.ann_file(V).read_text() + "train5\n")
    for read_images in (True, False):
        found = look(voc, read_images=read_images)
        assert set(found) == {("leak", V)}
        assert (found["leak", V].count, found["leak", V].total) == (1, 13)


def test_the_same_pixels_in_another_file_are_found_by_decoding(coco, look):
    image = cv2.imread(str(coco.image(T, 3)))
    cv2.imwrite(str(coco.root / "JPEGImages" / "other.png"), image)
    coco.edit(T, lambda content: content["images"][7].update(file_name="other.png"))
    assert not look(coco)
    assert set(look(coco, decode=True)) == {("image-twice", T)}


def test_damage_inside_an_image_is_found_by_decoding(coco, look):
    """A PNG whose header and end are those of a whole one."""
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    path = coco.root / "JPEGImages" / "broken.png"
    cv2.imwrite(str(path), image)
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    coco.edit(T, lambda content: content["images"][7].update(file_name="broken.png"))
    assert not look(coco)
    assert set(look(coco, decode=True)) <= {("image-unreadable", T), ("image-truncated", T)}
    assert look(coco, decode=True)


def test_all_faults_at_once(scene, look):
    for plant in (
        missing_image_0,
        tiny_object,
        box_twice,
        box_outside_5,
        left_out_category,
        leaked_image,
        other_size_9,
    ):
        plant(scene)
    expected = {
        ("image-missing", T), ("object-tiny", T), ("box-twice", T), ("box-outside", T), ("category-unnamed", T),
        ("leak", V), ("image-size", T),
    }  # fmt: skip
    assert set(look(scene)) == expected - ({("image-size", T)} if scene.form == "yolo" else set())


def missing_image_0(scene):
    scene.image(T, 0).unlink()


def box_outside_5(scene):
    scene.add(T, 5, "cat", (SIDE + 5, 20, 10, 12))


def other_size_9(scene):
    cv2.imwrite(str(scene.image(T, 9)), picture("x", 2 * SIDE, SIDE))


# ---- what takes more than one fault --------------------------------------------------------------------------------


def many(scene, split, name, count):
    """Add small objects beside each other to the images of cats."""
    for number in range(count):
        index, place = 2 * (number % 6), number // 6
        scene.add(split, index, name, (62 + 11 * (place % 3), 5 + 9 * (place // 3), 10, 8))


def unbalanced(scene):
    """1,224 cats and 24 dogs."""
    content = json.loads(scene.ann_file(T).read_text())
    for number in range(1200):
        box = [10 + (number // 12) % 10 * 8, 40 + (number // 120) * 4.5, 8, 8 + number // 600]
        new = {"id": 100 + number, "image_id": 2 * (number % 12), "category_id": 1, "bbox": box, "iscrowd": 0}
        content["annotations"].append(new)
    scene.ann_file(T).write_text(json.dumps(content))


def other_shares(scene):
    many(scene, V, "cat", 60)


def far_objects(scene):
    """Objects 60 pixels long, of which three strides of 8 are the reach on their level."""
    generator = {"type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8, "scales_per_octave": 1}
    scene.cfg.model.bbox_head = {
        "type": "GFLHead",
        "num_classes": 2,
        "in_channels": 16,
        "feat_channels": 16,
        "stacked_convs": 1,
        "norm_cfg": {"type": "GN", "num_groups": 4},
        "anchor_generator": {**generator, "strides": [8, 16, 32, 64]},
        "reg_max": 3,
    }
    scene.cfg.model.type = "GFL"


def images_elsewhere(scene):
    scene.cfg.val_dataloader.dataset.data_prefix.img = "s3://bucket/images"


OTHERS = [
    ({("class-balance", T): "WARNING", ("class-shift", V): "WARNING"}, unbalanced),
    ({("class-shift", V): "WARNING"}, other_shares),
    ({("beyond-reach", T): "WARNING", ("level-empty", T): "NOTE"}, far_objects),
    ({("images-not-read", V): "NOTE"}, images_elsewhere),
]


@pytest.mark.parametrize(("expected", "plant"), OTHERS, ids=[plant.__name__ for _, plant in OTHERS])
def test_planted_in_several_places(coco, look, expected, plant):
    plant(coco)
    found = look(coco)
    assert {key: one.severity.name for key, one in found.items()} == expected


def test_objects_beyond_reach_are_counted(coco, look):
    far_objects(coco)
    found = look(coco)["beyond-reach", T]
    # the longest of each fourth pair of images: 60 / 2 > 3 * 8
    assert (found.count, found.total) == (6, 48)
    assert found.examples[0].detail == "cat [2, 3, 60, 34] becomes 60 x 34"
    coco.cfg.model.bbox_head.reg_max = 4
    assert set(look(coco)) == {("level-empty", T)}


def test_a_training_that_does_not_fit_in_memory(coco, look, monkeypatch):
    monkeypatch.setattr(expectation, "device_memory", lambda device: 1000)
    assert set(look(coco, try_model=True)) == {("memory", "")}


def test_a_pipeline_that_fails_on_an_image(coco, look):
    pipeline = coco.cfg.train_dataloader.dataset.pipeline
    pipeline.insert(0, pipeline.pop(1))  # annotations before the image do no harm, ...
    assert not look(coco)
    pipeline.insert(0, {"type": "RandomCrop", "crop_size": (90, 90)})  # ... cropping does
    found = look(coco)
    assert set(found) == {("config", T)}
    assert str(found["config", T].examples[0]) == "train_dataloader.dataset.pipeline: KeyError: img"


def test_every_check_is_planted():
    expected = [one for table in (EACH, COCO, VOC, YOLO, OTHERS, FAULTS) for one, _ in table]
    planted = {key if isinstance(key, str) else key[0] for one in expected for key in one}
    assert set(ADVICE) - planted == {"memory"}  # which has a test of its own


def test_findings_as_json(coco, tmp_path):
    missing_image(coco)
    code = report(coco.cfg, DoctorOptions(try_model=False, workers=1), json_file=str(tmp_path / "out.json"))
    assert code == FOUND
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["counts"] == {"error": 1, "warning": 0, "note": 0}
    (one,) = content["findings"]
    assert (one["check"], one["severity"], one["split"], one["count"], one["total"]) == (
        "image-missing",
        "error",
        T,
        1,
        24,
    )
    assert one["examples"] == [{"file": str(coco.image(T, 3)), "item": "", "detail": "there is no such file"}]
    assert content["classes"][0] == {
        "class": "cat", "train_objects": 24, "train_images": 12, "val_objects": 12, "val_images": 6
    }  # fmt: skip
