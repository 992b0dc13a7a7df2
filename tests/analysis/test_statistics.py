"""Counts of assignments, held to loops over objects and points."""

import csv

import numpy as np
import pytest
from PIL import Image

from densehead.analysis import AssignmentRecord, AssignmentStatistics, comparison_table, write_statistics
from densehead.analysis.statistics import SIZE_EDGES, ambiguous_positives
from densehead.analysis.statistics_files import object_rows

STRIDES = np.array([8.0, 16.0])
CLASSES = ("cat", "dog", "owl")


def make_record(boxes, labels, positives, strides=STRIDES):
    """A record on 4 x 4 points of stride 8 and 2 x 2 of stride 16; positives are (prior, object, weight)."""
    points = [[8 * x + 4, 8 * y + 4] for y in range(4) for x in range(4)]
    points += [[16 * x + 8, 16 * y + 8] for y in range(2) for x in range(2)]
    prior, truth, weight = zip(*sorted(positives)) if positives else ((), (), ())
    return AssignmentRecord(
        boxes=np.array(boxes, float).reshape(-1, 4),
        labels=np.array(labels, int),
        points=np.array(points, float),
        level_index=np.array([0] * 16 + [1] * 4),
        strides=strides,
        prior_index=np.array(prior, int),
        gt_index=np.array(truth, int),
        weight=np.array(weight, float),
        weight_name="IoU",
        ignored_index=np.zeros(0, int),
    )


@pytest.fixture
def hand_made():
    """Two objects that overlap on one point, (12, 12), and one without a positive; and an image without objects.

    Sizes are 16, 16 and 4 pixels.
    """
    boxes = [[0, 0, 16, 16], [8, 8, 24, 24], [28, 28, 32, 32]]
    positives = [(0, 0, 1.0), (1, 0, 0.5), (5, 1, 0.25), (6, 1, 0.75), (16, 0, 0.5)]
    return [make_record(boxes, [0, 2, 2], positives), make_record([], [], [])]


def test_by_hand(hand_made):
    statistics = AssignmentStatistics(CLASSES)
    for record in hand_made:
        statistics.add("a", record)
    one = statistics.columns["a"]
    assert (one.images, one.objects, one.positives, one.missed) == (2, 3, 5, 1)
    sixteen, four = (int(np.flatnonzero(edge == SIZE_EDGES)[0]) for edge in (16, 4))
    assert one.histogram[sixteen].tolist() == [0, 0, 1, 1]
    assert one.histogram[four].tolist() == [1, 0, 0, 0]
    assert one.histogram.sum() == 3
    assert one.level_positives[sixteen].tolist() == [4, 1]
    assert one.level_objects.tolist() == [2, 1]
    assert one.level_weight.tolist() == [2.5, 0.5]
    assert one.size_weight[sixteen] == 3
    assert one.class_objects.tolist() == [1, 0, 2]
    assert one.class_positives.tolist() == [3, 0, 2]
    assert one.class_missed.tolist() == [0, 0, 1]
    assert one.group_objects.tolist() == [3, 0, 0]
    # the point (12, 12) is in both boxes; (8, 8) of level 1 is on the second one's corner and so not in it
    assert (one.ambiguous, one.sharing) == (1, 1)
    assert one.quartiles().tolist() == [0, 2, 3]


def random_records(count, seed=0):
    generator, made = np.random.default_rng(seed), []
    for _ in range(count):
        objects = generator.integers(0, 9)
        low = generator.uniform(0, 24, (objects, 2))
        boxes = np.concatenate([low, low + np.exp(generator.uniform(0, 5.5, (objects, 2)))], 1)
        chosen = generator.permutation(20)[: generator.integers(0, 21)] if objects else []
        positives = [(prior, generator.integers(objects), generator.uniform()) for prior in chosen]
        made.append(make_record(boxes, generator.integers(0, 3, objects), positives))
    return made


def test_against_loops():
    records = random_records(60)
    statistics = AssignmentStatistics(CLASSES)
    for record in records:
        statistics.add("a", record)
    one = statistics.columns["a"]
    counts, by_bin, groups, missed, ambiguous, sharing, weights = [], {}, [0] * 3, [0] * 3, 0, 0, {}
    for record in records:
        sharers = set()
        for prior, truth in zip(record.prior_index, record.gt_index):
            x, y = record.points[prior]
            inside = sum(left < x < right and top < y < bottom for left, top, right, bottom in record.boxes)
            if inside >= 2:
                ambiguous += 1
                sharers.add(truth)
        sharing += len(sharers)
        for index, (left, top, right, bottom) in enumerate(record.boxes):
            size = ((right - left) * (bottom - top)) ** 0.5
            counts.append(int((record.gt_index == index).sum()))
            place = max(edge for edge in SIZE_EDGES if edge <= size)
            by_bin.setdefault(place, []).append(counts[-1])
            weights[place] = weights.get(place, 0) + record.weight[record.gt_index == index].sum()
            group = 0 if size < 32 else 1 if size < 96 else 2
            groups[group] += counts[-1]
            missed[group] += not counts[-1]
    assert (one.ambiguous, one.sharing) == (ambiguous, sharing)
    assert ambiguous > 0 < sharing
    assert one.group_positives.tolist() == groups
    assert one.group_missed.tolist() == missed
    assert min(groups) > 0
    quartiles = np.quantile(counts, [0.25, 0.5, 0.75], method="inverted_cdf")
    assert np.array_equal(one.quartiles(), quartiles)
    for index, low in enumerate(SIZE_EDGES[:-1]):
        found, there = one.quartiles(of_sizes=True)[index], by_bin.get(low, [])
        assert one.size_objects[index] == len(there)
        assert one.size_weight[index] == pytest.approx(weights.get(low, 0))
        expected = np.quantile(there, [0.25, 0.5, 0.75], method="inverted_cdf") if there else [np.nan] * 3
        assert np.array_equal(found, expected, equal_nan=True)


def test_points_are_looked_at_in_pieces(monkeypatch):
    records = random_records(10)
    whole = [ambiguous_positives(record) for record in records]
    monkeypatch.setattr("densehead.analysis.statistics.CHUNK", 7)
    assert all(np.array_equal(a, ambiguous_positives(record)) for a, record in zip(whole, records))


def test_what_does_not_fit(hand_made):
    statistics = AssignmentStatistics(CLASSES[:2])
    with pytest.raises(ValueError, match="a: labels must be below the number of classes, 2, but got 2"):
        statistics.add("a", hand_made[0])
    with pytest.raises(ValueError, match=r"after the strides \[8.0, 16.0\] came \[8.0, 32.0\]"):
        statistics.add("a", make_record([], [], [], strides=np.array([8.0, 32.0])))
    with pytest.raises(ValueError, match="no image has been counted"):
        write_statistics(AssignmentStatistics(CLASSES), "nowhere")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files(tmp_path, hand_made):
    statistics = AssignmentStatistics(CLASSES)
    with object_rows(tmp_path, CLASSES) as rows:
        for title in ("one, two", "other|more"):
            for number, record in enumerate(hand_made):
                statistics.add(title, record)
                rows.add(title, record, f"{number}.jpg")
    files = write_statistics(statistics, tmp_path)
    assert sorted(path.name for path in (*files, tmp_path / "objects.csv")) == sorted(
        path.name for path in tmp_path.iterdir()
    )
    (first, second) = rows_of(tmp_path / "comparison.csv")
    assert (first["assigner"], second["assigner"]) == ("one, two", "other|more")
    assert (first["images"], first["objects"], first["positives"]) == ("2", "3", "5")
    assert (first["positives_per_object"], first["positives_large"]) == ("1.66667", "")
    assert (first["share_without"], first["mean_weight"], first["weight"]) == ("0.333333", "0.6", "IoU")
    sizes = rows_of(tmp_path / "by_size.csv")
    assert [(row["size_from"], row["size_below"], row["objects"]) for row in sizes[:2]] == [
        ("4", "5.65685", "1"),
        ("16", "22.6274", "2"),
    ]
    assert [sizes[1][f"positives_level_{level}"] for level in (0, 1)] == ["4", "1"]
    levels = rows_of(tmp_path / "by_level.csv")
    assert [levels[1][key] for key in ("stride", "share_of_positives", "share_of_objects")] == ["16", "0.2", "0.333333"]
    assert [row["positives_per_object"] for row in rows_of(tmp_path / "by_class.csv")[:3]] == ["3", "", "1"]
    objects = rows_of(tmp_path / "objects.csv")
    assert len(objects) == 6
    assert [row["positives"] for row in objects[:3]] == ["3", "2", "0"]
    assert [row["ambiguous"] for row in objects[:3]] == ["0", "1", "0"]
    assert [row["mean_weight"] for row in objects[:3]] == ["0.666667", "0.5", ""]
    assert (objects[1]["image"], objects[1]["class"], objects[1]["right"]) == ("0.jpg", "owl", "24")
    text = (tmp_path / "comparison.md").read_text().splitlines()
    assert len(text) == 4
    assert text[3].startswith(r"| other\|more | 3 | 1.7 | 0 2 3 | 1.7 | - | - | 33.3% | 20.0% | 33.3% | 0.60 |")


def test_names_of_strangers_stay_text(tmp_path, hand_made):
    """In Markdown no HTML, link or end of a cell; in figures no mathematics, which would be wrong here."""
    hostile = r"<img src=x onerror=alert(1)>|[a](javascript:b) $\frac$"
    statistics = AssignmentStatistics([hostile] * len(CLASSES))
    statistics.add(hostile, hand_made[0])
    write_statistics(statistics, tmp_path)
    line = (tmp_path / "comparison.md").read_text().splitlines()[2]
    assert line.startswith(r"| &lt;img src=x onerror=alert(1)&gt;\|\[a\](javascript:b) $\\frac$ | 3 |")
    assert rows_of(tmp_path / "by_class.csv")[0]["class"] == hostile


def test_table_on_the_console(hand_made):
    statistics = AssignmentStatistics(CLASSES)
    statistics.add("a", hand_made[1])
    lines = [[cell.strip() for cell in line.split("|")] for line in comparison_table(statistics).splitlines()]
    assert lines[0][:4] == ["assigner", "objects", "positives", "quartiles"]
    assert lines[2] == ["a", "0", "-", "- - -", *["-"] * 7]


def test_objects_are_whole_or_not_there(tmp_path, hand_made):
    with pytest.raises(IndexError), object_rows(tmp_path, CLASSES[:1]) as rows:
        rows.add("a", hand_made[0], "0.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", [1, 9])
def test_figure(tmp_path, columns):
    statistics = AssignmentStatistics([f"class {index}" for index in range(40)])
    for number, record in enumerate(random_records(20)):
        for column in range(columns):
            record = AssignmentRecord(**{**vars(record), "labels": (record.labels + number) % 40})
            statistics.add(f"column {column}", record)
    write_statistics(statistics, tmp_path)
    with Image.open(tmp_path / "assignment_statistics.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_figure_of_images_without_objects(tmp_path):
    statistics = AssignmentStatistics(CLASSES)
    statistics.add("a", make_record([], [], []))
    assert (write_statistics(statistics, tmp_path)[-1]).is_file()
