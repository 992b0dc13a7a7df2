"""A training that stops, anywhere, and is resumed has the losses of the one that did not stop."""

import contextlib
import errno
import itertools
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook

from densehead.apis import prepare_training, train
from densehead.engine import CheckpointHook, TrainingStopped, files
from densehead.files import whole_file
from densehead.registry import HOOKS
from tests.engine.tiny import losses, tiny_config

# No pictures are drawn; what the model itself draws at random is in Jitter.
QUIET = {"default_hooks__summary": None, "train_cfg__max_epochs": 3}


class Crash(RuntimeError):
    pass


@HOOKS.register_module()
class StopAt(Hook):
    """Stops a training before iteration ``at`` or in validation ``val``: by a signal, or by an error like a crash."""

    def __init__(self, at=None, val=None, signum=None):
        self.at, self.val, self.signum = at, val, signum

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            self._stop()

    def before_val_epoch(self, runner):
        if runner.epoch == self.val:
            self._stop()

    def _stop(self):
        if self.signum is None:
            raise Crash
        os.kill(os.getpid(), self.signum)


@HOOKS.register_module()
class Jitter(Hook):
    """A model that draws random numbers: its inputs get noise."""

    def before_train(self, runner):
        model = runner.model
        forward = model.forward
        model.forward = lambda inputs, *args, **kwargs: forward(inputs + torch.rand_like(inputs), *args, **kwargs)


def run(folder, data_root, *, stop=None, resume=None, **options):
    hooks = [{"type": "Jitter"}] + ([{"type": "StopAt", **stop}] if stop else [])
    cfg = tiny_config(folder, data_root, custom_hooks=hooks, **{**QUIET, **options})
    return train(prepare_training(cfg, resume=resume))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_root):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    runner = run(folder, data_root)
    state = {name: value.clone() for name, value in runner.model.state_dict().items()}
    return losses(runner), state


def assert_same(runner, whole):
    expected, state = whole
    assert losses(runner) == expected
    assert all(torch.equal(value, state[name]) for name, value in runner.model.state_dict().items())


def test_losses_do_not_repeat(whole):
    assert len(whole[0]) == 12
    assert len(set(whole[0])) == 12


def test_crash_in_an_epoch(tmp_path, data_root, whole):
    with pytest.raises(Crash):
        run(tmp_path, data_root, stop={"at": 6})
    assert_same(run(tmp_path, data_root, resume="auto"), whole)


def test_checkpoints_by_iterations(tmp_path, data_root, whole):
    """In the middle of an epoch, as docs/reliability.md recommends where a signal ends several processes at once."""
    options = {"default_hooks__checkpoint__by_epoch": False, "default_hooks__checkpoint__interval": 3}
    with pytest.raises(Crash):
        run(tmp_path, data_root, stop={"at": 7}, **options)
    assert Path((tmp_path / "work" / "last_checkpoint").read_text()).name == "iter_6.pth"
    assert_same(run(tmp_path, data_root, resume="auto", **options), whole)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_a_checkpoint_of_that_iteration(tmp_path, data_root, whole, signum):
    handler = signal.getsignal(signum)
    with pytest.raises(TrainingStopped) as stopped:
        run(tmp_path, data_root, stop={"at": 1, "signum": signum})
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) is handler
    checkpoint = torch.load(stopped.value.checkpoint, weights_only=False)
    assert (checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]) == (0, 2)
    runner = run(tmp_path, data_root, resume="auto")
    assert_same(runner, whole)
    assert not Path(stopped.value.checkpoint).exists()


def test_signal_at_the_last_iteration_of_an_epoch(tmp_path, data_root, whole):
    with pytest.raises(TrainingStopped):
        run(tmp_path, data_root, stop={"at": 3, "signum": signal.SIGTERM})
    assert_same(run(tmp_path, data_root, resume="auto"), whole)


@pytest.mark.parametrize("stop", [{"val": 2}, {"val": 2, "signum": signal.SIGTERM}])
def test_stop_in_validation_validates_first(tmp_path, data_root, whole, stop):
    with pytest.raises((Crash, TrainingStopped)):
        run(tmp_path, data_root, stop=stop)
    runner = run(tmp_path, data_root, resume="auto")
    assert_same(runner, whole)
    assert len(runner.message_hub.log_scalars["val/coco/bbox_mAP"].data[0]) == 3


def test_number_of_loading_processes_is_of_no_account(tmp_path, data_root, whole):
    with pytest.raises(TrainingStopped):
        run(
            tmp_path,
            data_root,
            stop={"at": 5, "signum": signal.SIGTERM},
            train_dataloader__num_workers=1,
            train_dataloader__persistent_workers=True,
        )
    assert_same(run(tmp_path, data_root, resume="auto", train_dataloader__num_workers=2), whole)


def test_seed_of_the_checkpoint_counts(tmp_path, data_root):
    expected = losses(run(tmp_path / "whole", data_root, randomness__seed=7))
    with pytest.raises(Crash):
        run(tmp_path / "part", data_root, randomness__seed=7, stop={"at": 6})
    resumed = run(tmp_path / "part", data_root, randomness={"seed": None, "_delete_": True}, resume="auto")
    assert losses(resumed) == expected


def test_other_batch_size_in_the_middle_of_an_epoch(tmp_path, data_root):
    with pytest.raises(TrainingStopped):
        run(tmp_path, data_root, stop={"at": 2, "signum": signal.SIGTERM})
    with pytest.raises(ValueError, match=r"after 3 batches of an epoch, but .* only 2: resume with .*batch_size"):
        run(tmp_path, data_root, resume="auto", train_dataloader__batch_size=4)


def test_resume_without_a_checkpoint_begins(tmp_path, data_root, whole):
    assert_same(run(tmp_path, data_root, resume="auto"), whole)


def test_finished_training_stays_finished(tmp_path, data_root):
    run(tmp_path, data_root, train_cfg__max_epochs=1)
    runner = run(tmp_path, data_root, train_cfg__max_epochs=1, resume="auto")
    assert (runner.epoch, runner.iter) == (1, 4)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, data_root, whole, capfd):
    with pytest.raises(Crash):
        run(tmp_path, data_root, stop={"at": 10})
    newest = tmp_path / "work" / "epoch_2.pth"
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert_same(run(tmp_path, data_root, resume="auto"), whole)
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "--resume" in line]
    assert len(said) == 1
    assert re.search(r"epoch_2.pth is not whole .*Going on from \S*epoch_1.pth instead", said[0])


def test_a_named_checkpoint_is_checked_too(tmp_path, data_root):
    run(tmp_path, data_root, train_cfg__max_epochs=1)
    path = tmp_path / "work" / "epoch_1.pth"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"epoch_1\.pth is not whole"):
        run(tmp_path, data_root, resume=str(path))


def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path, data_root, whole, monkeypatch):
    """With max_keep_ckpts=1, where mmengine removes the old one first."""
    options = {"default_hooks__checkpoint__max_keep_ckpts": 1}
    with monkeypatch.context() as patch:
        patch.setattr(files, "whole_file", full_disk(after=3))  # epoch 1, the best, epoch 1 again; epoch 2 is too much
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, data_root, **options)
    work = tmp_path / "work"
    assert sorted(path.name for path in work.glob("epoch_*")) == ["epoch_1.pth"]
    assert not list(work.glob(".*.tmp"))
    assert_same(run(tmp_path, data_root, resume="auto", **options), whole)
    assert sorted(path.name for path in work.glob("epoch_*")) == ["epoch_3.pth"]


def full_disk(after):
    """Return a ``whole_file`` whose disk is full in the middle of the file after so many."""
    count = itertools.count()

    @contextlib.contextmanager
    def open_whole(path):
        with whole_file(path) as file:
            is_full = next(count) == after
            yield SimpleNamespace(write=lambda content: half(file, content) if is_full else file.write(content))

    def half(file, content):
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return open_whole


def test_what_a_kill_before_the_removal_leaves_is_removed_later(tmp_path, data_root, whole, monkeypatch):
    options = {"default_hooks__checkpoint__max_keep_ckpts": 1}

    def killed(*args):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointHook, "_remove", killed)
        with pytest.raises(Crash):
            run(tmp_path, data_root, **options)
    work = tmp_path / "work"
    assert sorted(path.name for path in work.glob("epoch_*")) == ["epoch_1.pth", "epoch_2.pth"]
    assert_same(run(tmp_path, data_root, resume="auto", **options), whole)
    assert sorted(path.name for path in work.glob("epoch_*")) == ["epoch_3.pth"]
