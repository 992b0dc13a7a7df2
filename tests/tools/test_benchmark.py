"""tools/benchmark.py and what is behind it, on images of a few pixels."""

import importlib.util
import json
import re
import sys
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config

from densehead.apis.benchmark import HeadOptions, ScalingOptions, heads, measure_heads, meters, report, scaling, tables
from densehead.apis.benchmark.scene import count_candidates, draw_maps, draw_scene
from densehead.apis.benchmark.sides import CONFIGS, OURS, STAGES, THEIRS, OurSide, build_ours, head_config
from densehead.apis.benchmark.stopwatch import is_convolution
from densehead.models.heads import FCOSHead
from densehead.ops import pairwise_iou
from tests.engine.tiny import ROOT, tiny_config

TINY = dict(configs=str(ROOT / "configs"), truths=(3,), images=2, size=(64, 96), classes=5, rounds=1)
FIGURES = {"median_ms", "min_ms", "times_ms", "peak_mb"}


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls the tool in this process: its exit code and what it said."""
    spec = importlib.util.spec_from_file_location("tool_benchmark", ROOT / "tools" / "benchmark.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)
    # what the tool does to the process that it has for itself
    monkeypatch.setattr(tool.warnings, "filterwarnings", lambda *args, **kwargs: None)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *map(str, args)])
        try:
            code = tool.main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def twin(monkeypatch):
    """A second head of densehead in the place of mmdetection's."""
    monkeypatch.setattr(heads, "build_theirs", build_ours)
    monkeypatch.setattr(heads, "TheirSide", OurSide)


# ---- meters ------------------------------------------------------------------------------------------------------


def test_memory_of_known_allocations():
    """Four bytes a float: 4 MB that are freed, then 8 MB that are kept, then 2 MB beside them."""

    def call():
        torch.ones(1_000_000)
        kept = torch.ones(2_000_000)
        torch.ones(500_000)
        return kept

    assert meters.measure_memory(call) == pytest.approx(10, abs=0.01)


def test_memory_inside_operators_and_for_gradients():
    x = torch.rand(1000, 1000)
    # a softmax over the rows of a transposed matrix needs the matrix laid out anew: 4 MB beside the 4 of the result
    assert meters.measure_memory(lambda: torch.softmax(x.t(), 1)) == pytest.approx(8, abs=0.1)
    x.requires_grad_()

    def train():  # of exp the result is kept for its gradient: 4 MB, 4 for their sum's gradient, 4 for that of x
        x.exp().pow(1).sum().backward()

    def reset():
        x.grad = None

    peak = meters.measure_memory(train, prepare=reset)
    assert 8 < peak < 17
    assert x.grad is None
    assert meters.measure_memory(lambda: x.detach() + 0) == pytest.approx(4, abs=0.01)  # x itself was there before


def test_calls_alternate():
    said = []
    calls = {name: lambda name=name: said.append(name) for name in "ab"}
    times = meters.alternate(calls, rounds=3, warmups=1, prepare=lambda: said.append("-"))
    assert said == ["-", "a", "-", "b"] * 4 + ["-"]
    assert {name: len(found) for name, found in times.items()} == {"a": 3, "b": 3}
    assert min(map(min, times.values())) >= 0


def test_time_that_is_up_leaves_one_round():
    times = meters.alternate({"a": lambda: None, "b": lambda: None}, rounds=50, limit=0.0)
    assert [len(found) for found in times.values()] == [1, 1]


# ---- what is measured --------------------------------------------------------------------------------------------


def test_scenes():
    scene = draw_scene(3, (800, 1344), 200, 80, seed=1)
    again = draw_scene(3, (800, 1344), 200, 80, seed=1)
    assert scene.num_truths == [200] * 3
    for one, other in zip(scene.truths, again.truths, strict=True):
        assert torch.equal(one.bboxes, other.bboxes)
        sides = one.bboxes[:, 2:] - one.bboxes[:, :2]
        assert sides.min() >= 16 - 1e-3
        assert sides.max() <= 512 + 1e-3
        assert one.bboxes.min() >= 0
        assert (one.bboxes[:, 2:] <= torch.tensor([1344.0, 800.0]) + 1e-3).all()
        assert 0 <= one.labels.min() <= one.labels.max() < 80
    # logarithmically uniform: half of the sides are below the geometric mean of the ends
    sides = torch.cat([one.bboxes[:, 2] - one.bboxes[:, 0] for one in scene.truths])
    assert (sides < (16 * 512) ** 0.5).float().mean() == pytest.approx(0.5, abs=0.06)
    assert not torch.equal(scene.truths[0].bboxes, draw_scene(1, (800, 1344), 200, 80, seed=2).truths[0].bboxes)


@pytest.mark.parametrize("name", CONFIGS)
def test_maps_are_those_of_a_trained_head(name):
    """Their detections find most objects, so scores and boxes are encoded as the head reads them."""
    scene = draw_scene(2, (256, 320), 5, 5)
    head = build_ours(head_config(ROOT / "configs" / CONFIGS[name], 5), "cpu")
    maps = draw_maps(head, scene)
    side = OurSide(head, maps, scene)
    hits = []
    for truth, found in zip(scene.truths, side.predict(), strict=True):
        same = truth.labels[:, None] == found.labels
        hits.append(((pairwise_iou(truth.bboxes, found.bboxes) > 0.75) & same).any(1))
    assert torch.cat(hits).float().mean() >= 0.7
    assert 5 < count_candidates(maps, 0.05) < 2000
    side.loss_backward()
    assert all(leaf.grad is not None for leaf in maps.leaves())
    side.reset()
    assert all(leaf.grad is None for leaf in maps.leaves())


def test_maps_have_the_shapes_of_the_branches():
    levels = {"strides": (8, 16), "regress_ranges": ((-1, 64), (64, 1e8))}
    head = FCOSHead(5, 8, feat_channels=8, stacked_convs=0, norm_on_bbox=True, **levels)
    maps = draw_maps(head, draw_scene(2, (64, 96), 3, 5))
    features = [torch.zeros(2, 8, 64 // stride, 96 // stride) for stride in (8, 16)]
    for drawn, put_out in zip(maps.training, head(features), strict=True):
        assert [level.shape for level in drawn] == [level.shape for level in put_out]
    # it trains in strides and predicts in pixels
    assert torch.allclose(maps.training[1][1] * 16, maps.prediction[1][1])


# ---- heads -------------------------------------------------------------------------------------------------------


def test_record_of_heads(twin):
    said = []
    record = measure_heads(HeadOptions(**TINY, heads=("gfl", "autoassign")), said.append)
    assert record["kind"] == "heads"
    assert {"cpu", "cores", "threads", "torch", "mmcv", "mmdet", "command"} <= set(record["machine"])
    stages = [(row["head"], row["stage"]) for row in record["rows"]]
    # AutoAssign assigns within its loss
    assert stages == [("gfl", stage) for stage in STAGES] + [("autoassign", stage) for stage in STAGES[1:]]
    assert len(said) == len(stages)
    for row in record["rows"]:
        assert set(row[OURS]) == set(row[THEIRS]) == FIGURES
        assert row[OURS]["peak_mb"] > 0
        assert row["candidates"] > 0
        assert row["agreement"][OURS] == row["agreement"][THEIRS]
    json.dumps(record)
    text = tables.heads_table(record)
    assert len(text.splitlines()) == 2 + len(stages)
    assert len({len(line) for line in text.splitlines()}) == 1
    assert "| GFL " in text


def test_heads_from_the_command_line(call, tmp_path):
    options = ("--rounds", 1, "--size", "64x96", "--images", 1, "--classes", 5, "--truths", 0, 2, "--no-mmdet")
    code, said, error = call("heads", "--heads", "fcos", "--out", "results", *options)
    assert (code, error) == (0, "")
    record = report.read_json(tmp_path / "results" / "heads_cpu.json")
    assert [row["truths"] for row in record["rows"]] == [0] * 4 + [2] * 4
    assert all(THEIRS not in row for row in record["rows"])
    assert record["options"]["size"] == [64, 96]
    assert (tmp_path / "results" / "heads_cpu.png").stat().st_size > 5000
    assert "python tools/benchmark.py heads --heads fcos --rounds 1" in said  # not where its figures went
    assert "| FCOS " in said


def test_a_config_of_ones_own(call):
    path = ROOT / "configs" / "quickstart" / "gfl_r18_digits.py"
    options = ("--size", "64x96", "--images", 1, "--stages", "predict", "--no-mmdet", "--no-memory", "--rounds", 1)
    code, said, _ = call("heads", "--heads", path, "--truths", 2, *options)
    assert code == 0
    assert "| gfl_r18_digits | 2 " in said


# ---- scaling -----------------------------------------------------------------------------------------------------


def test_record_of_scaling(twin, call, tmp_path):
    options = ("--rounds", 1, "--at-size", "64x96", "--at-images", 1, "--classes", 5)
    axes = ("--truths", 10, 1, "--images", 1, 2, "--sizes", "32x32", "64x96")
    code, said, error = call("scaling", "--heads", "gfl", *options, *axes, "--out", ".")
    assert (code, error) == (0, "")
    rows = report.read_json(tmp_path / "scaling_cpu.json")["rows"]
    points = [(row["axis"], row["value"], row["truths"], row["images"], row["size"]) for row in rows]
    assert points == [
        ("truths", 1, 1, 1, [64, 96]),
        ("truths", 10, 10, 1, [64, 96]),
        ("images", 1, 7, 1, [64, 96]),
        ("images", 2, 7, 2, [64, 96]),
        ("size", 1024, 7, 1, [32, 32]),
        ("size", 6144, 7, 1, [64, 96]),
    ]
    assert all(set(row[OURS]) == set(row[THEIRS]) == FIGURES for row in rows)
    assert [(tmp_path / f"scaling_cpu_{axis}.png").stat().st_size > 5000 for axis in scaling.AXES] == [True] * 3
    assert "| size           | 32x32 " in said


def test_what_takes_too_long_is_left_out(monkeypatch):
    options = ScalingOptions(configs="", limit=2.0)
    monkeypatch.setattr(scaling, "free_megabytes", lambda device: 1000.0)

    def reason(milliseconds, megabytes):
        row = {"axis": "truths", "value": 100, THEIRS: {"min_ms": milliseconds, "peak_mb": megabytes}}
        return scaling.reason_to_skip([row], 300, options)

    assert scaling.reason_to_skip([], 1, options) is None
    assert reason(1999, 199) is None
    assert reason(2100, 1) == "2.1 s at 100"
    assert scaling.reason_to_skip([{"value": 100, THEIRS: {"min_ms": 1000, "peak_mb": 1}}], 1000, options) == (
        "it would take about 10 s"
    )
    assert reason(1, 201) == "it would need about 603 MB of 1000"
    before = [{"value": 300, "axis": "truths", "skipped": "2.1 s at 100"}]
    assert scaling.reason_to_skip(before, 1000, options) == "2.1 s at 100"
    row = {"head": "gfl", "axis": "truths", "value": 300, "skipped": "2.1 s at 100"}
    said = tables.skipped_lines({"rows": [row, {**row, "value": 1000}]}, "truths")
    assert said == "Not measured of mmdet: GFL from 300 on (2.1 s at 100)."


def test_reference_that_fails(twin, monkeypatch):
    class Failing(OurSide):
        def loss(self):
            if len(self.scene.truths[0]) == 2:
                raise ValueError("Fitting failed because of this. Try that")
            return super().loss()

    monkeypatch.setattr(heads, "TheirSide", Failing)
    options = ScalingOptions(
        TINY["configs"], ("gfl",), ("truths",), truths=(1, 2, 3), at_size=(64, 96), rounds=1, memory=False
    )
    record = scaling.measure_scaling(options)
    assert [THEIRS in row for row in record["rows"]] == [True, False, True]
    said = tables.skipped_lines(record, "truths")
    assert said == "Not measured of mmdet: GFL at 2 (it raises ValueError: Fitting failed because of this)."


# ---- train -------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path, data_root):
    cfg = tiny_config(tmp_path, data_root, default_hooks__summary=None)
    cfg.dump(tmp_path / "tiny.py")
    return tmp_path / "tiny.py"


STEPS = ("--iters", 3, "--warmup", 1, "--parts", 2)


@pytest.mark.parametrize("data", [(), ("--drawn", "64x96")], ids=["own data", "drawn"])
def test_record_of_a_training(call, config, tmp_path, data):
    code, said, error = call("train", config, *STEPS, *data, "--profile", "--out", "results")
    assert (code, error) == (0, "")
    (row,) = report.read_json(tmp_path / "results" / "train_tiny_cpu.json")["rows"]
    assert row["batch"] == 2
    assert row["images_per_s"] > 0
    parts = row["parts_ms"]
    names = {"data", "preprocess", "forward", "backward", "optimizer", "head loss", "head loss, backward", "step"}
    assert set(parts) == names
    assert all(value > 0 for value in parts.values())
    assert sum(parts[name] for name in ("data", "preprocess", "forward", "backward", "optimizer")) <= parts["step"]
    assert parts["head loss"] < parts["forward"]
    assert parts["head loss, backward"] < parts["backward"]
    assert 0 < row["head_loss_share"] < 1
    assert 0 < row["not_convolutions_share"] < 1
    assert "images/s" in said
    assert not (tmp_path / "work").exists()  # nothing is kept of the training


@pytest.mark.parametrize(
    ("options", "name"), [((), "tiny.py train_dataloader.batch_size=4"), (("--name", "more images"), "more images")]
)
def test_options_of_a_training(call, config, tmp_path, options, name):
    overrides = ("--cfg-options", "train_dataloader.batch_size=4")
    code, said, _ = call("train", config, *STEPS, "--drawn", "64x64", "--out", ".", *options, *overrides)
    assert code == 0
    assert f"| {name} | cpu    | 4     |" in said
    assert (tmp_path / f"train_{'more_images' if options else 'tiny'}_cpu.json").is_file()


def test_a_training_of_a_strangers_config(call, config, tmp_path):
    code, said, error = call("train", config, *STEPS, "--safe")
    assert (code, said) == (2, "")
    assert error.startswith("error: --safe reads configs of .yaml, .yml, .json only")
    Config.fromfile(config).dump(tmp_path / "tiny.json")
    code, said, error = call("train", tmp_path / "tiny.json", *STEPS, "--drawn", "64x64", "--safe")
    assert (code, error) == (0, "")
    assert "| tiny.json | cpu " in said


def test_convolutions_by_name():
    for name in ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::cudnn_convolution"):
        assert is_convolution(name)
    assert not is_convolution("aten::native_batch_norm")


# ---- documents ---------------------------------------------------------------------------------------------------


def test_report_into_a_document(call, tmp_path, twin):
    options = ("--heads", "gfl", "--rounds", 1, "--classes", 5, "--no-memory", "--out", "results")
    assert call("heads", "--size", "64x96", "--images", 1, "--truths", 2, *options)[0] == 0
    axis = ("--at-size", "64x96", "--at-images", 1, "--axes", "truths", "--truths", 1, 2)
    assert call("scaling", *axis, *options)[0] == 0
    document = tmp_path / "docs" / "all.md"
    document.parent.mkdir()
    names = ("heads_cpu", "heads_cpu_machine", "scaling_cpu_truths", "heads_cuda")
    document.write_text("# Title\n" + "".join(f"\n<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in names))
    code, said, _ = call("report", "results", "--into", document)
    assert code == 0
    assert said.endswith("with the figures of heads_cpu.json, scaling_cpu.json\n")
    text = document.read_text()
    assert text.count("old") == 1  # nothing was measured on a GPU
    assert "| GFL  | 2 " in text
    assert "| GFL, mmdet " in text
    assert "python tools/benchmark.py heads" in text
    images = sorted(one.name for one in (document.parent / "images").iterdir())
    assert images == ["benchmark_heads_cpu.png", "benchmark_scaling_cpu_truths.png"]
    call("report", "results", "--into", document)
    assert document.read_text() == text


def test_markers_of_the_page():
    """Each is closed, and of a name that results have."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    names = re.findall(r"^<!-- (\w+) -->$", text, re.MULTILINE)
    assert names == re.findall(r"^<!-- /(\w+) -->$", text, re.MULTILINE)
    kinds = ("heads", "train", *(f"scaling_{{}}_{axis}" for axis in scaling.AXES), "scaling")
    known = {kind.format(device) if "{" in kind else f"{kind}_{device}" for kind in kinds for device in ("cpu", "cuda")}
    assert set(names) <= known | {f"{name}_machine" for name in known}
    assert all("new text" in report.fill(text, name, "new text") for name in names)


def test_trainings_share_a_table():
    row = {
        "device": "cpu", "batch": 2, "images_per_s": 3.0, "step_ms": 1.0, "data_ms": 0.1,
        "parts_ms": {}, "head_loss_share": 0.1, "not_convolutions_share": None, "peak_mb": None,
    }  # fmt: skip
    records = [
        {"kind": "train", "machine": {"command": name}, "options": {}, "rows": [{**row, "name": name}]}
        for name in ("a.py", "b.py")
    ]
    (joined,) = report.joined(records)
    assert [one["name"] for one in joined["rows"]] == ["a.py", "b.py"]
    assert len(tables.train_table(joined).splitlines()) == 4
    assert joined["machine"]["command"] == "a.py\nb.py"


def test_a_head_that_is_measured_again_counts_anew():
    def record(**times):
        rows = [{"head": head, "truths": 7, "stage": "loss", OURS: {"median_ms": time}} for head, time in times.items()]
        return {"kind": "heads", "machine": {"command": str(times)}, "options": {"device": "cpu"}, "rows": rows}

    (joined,) = report.joined([record(gfl=1.0, paa=2.0), record(gfl=3.0, fcos=4.0)])
    found = [(row["head"], row[OURS]["median_ms"]) for row in joined["rows"]]
    assert found == [("fcos", 4.0), ("gfl", 3.0), ("paa", 2.0)]


# ---- bad input ---------------------------------------------------------------------------------------------------

BAD = [
    (("heads", "--heads", "fcoss"), "--heads fcoss: neither one of fcos, atss, "),
    (("heads", "--truths", "-1"), "--truths must be 0 or more, but got -1"),
    (("heads", "--images", "0"), "--images must be at least 1, but got 0"),
    (("scaling", "--rounds", "0"), "--rounds must be at least 1, but got 0"),
    (("train", "none.py"), "there is no config file none.py."),
    (("train", ROOT / "configs/quickstart/gfl_r18_digits.py", "--iters", "0"), "--iters must be at least 1, but got 0"),
    (("report", "."), "there are no results (*.json) in .: give the folder of --out"),
    (("heads", "--heads", ROOT / "configs/_base_/default_runtime.py"), "has no model.bbox_head"),
]


@pytest.mark.parametrize(("args", "message"), BAD)
def test_bad_input(call, args, message):
    code, _, error = call(*args)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(call):
    code, _, error = call("heads", "--device", "cuda")
    assert code == 2
    assert error == "error: --device cuda needs a GPU that PyTorch can use, and there is none: take --device cpu\n"


def test_bad_words(call):
    for args in (("heads", "--size", "800"), ("heads", "--threads", "0"), ("heads", "--stages", "all"), ()):
        code, _, error = call(*args)
        assert code == 2
        assert "error: " in error


def test_files_that_are_no_results(call, tmp_path):
    (tmp_path / "a.json").write_text("{")
    code, _, error = call("report", tmp_path)
    assert code == 2
    assert "a.json is no result of this tool" in error
    (tmp_path / "a.json").write_text("{}")
    assert "it has no kind, machine and rows" in call("report", tmp_path)[2]


def test_compiled_losses_are_named_so(monkeypatch):
    wanted = []

    @contextmanager
    def spy(is_wanted):
        wanted.append(is_wanted)
        yield

    monkeypatch.setattr("densehead.models.heads.base.compiled_losses", spy)
    options = HeadOptions(**TINY, heads=("gfl", "fcos"), stages=("loss",), compile_losses=True, memory=False)
    record = measure_heads(options)
    assert [row["head"] for row in record["rows"]] == ["gfl, compiled", "fcos, compiled"]
    assert all(wanted)
    assert "GFL, compiled" in "".join(tables.tables(record).values())


def test_freed_memory_is_kept_where_the_library_can(monkeypatch):
    assert meters.keep_freed_memory() in (True, False)
    monkeypatch.setattr(meters.ctypes, "CDLL", lambda name: object())  # a C library without mallopt
    assert not meters.keep_freed_memory()
