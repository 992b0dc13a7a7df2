"""Kills trainings at random moments and resumes them, as often as asked: ``python -m tests.engine.kills --kills 50``.

A process that has imported everything forks one that trains, and kills it (SIGKILL) after a random time, wherever it
is: writing scenes, a batch, a checkpoint, validating. The next one resumes; a training that has ended is compared with
one that was left alone, bit by bit, and the next begins. Writing a checkpoint is made slow, and a third of the kills
wait for one that is being written.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from densehead.apis import prepare_training, train
from densehead.damage import damage_of
from densehead.engine import files
from tests.engine.tiny import tiny_config

EPOCHS = 4
LATE_IMPORTS = ("sklearn.datasets", "scipy.stats", "matplotlib.pyplot", "faster_coco_eval", "pycocotools.coco")
PAUSE = 0.3  # seconds in the middle of writing a checkpoint


class SlowFile:
    """Writes the first half, waits, and writes the second."""

    def __init__(self, file) -> None:
        self.file = file

    def write(self, content: bytes) -> None:
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        time.sleep(PAUSE)
        self.file.write(content[half:])


def slow_writing() -> None:
    whole_file = files.whole_file

    @contextlib.contextmanager
    def slow(path) -> Iterator[SlowFile]:
        with whole_file(path) as file:
            yield SlowFile(file)

    files.whole_file = slow


def train_in_fork(folder: Path, *, keep: int = 1) -> int:
    """Fork a process that begins or resumes the training in a folder; return its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        with open(folder / "console.txt", "a", encoding="utf-8") as console:
            os.dup2(console.fileno(), 1)
            os.dup2(console.fileno(), 2)
            torch.set_num_threads(1)
            slow_writing()
            Config.pretty_text = property(lambda self: "")  # takes longer than the training
            options = {"train_cfg__max_epochs": EPOCHS, "default_hooks__checkpoint__max_keep_ckpts": keep}
            cfg = tiny_config(folder, default_hooks__summary=None, **options)
            train(prepare_training(cfg, resume="auto"))
            code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def final_state(folder: Path) -> tuple[dict, list[float]]:
    """Return weights, optimizer and schedule at the end, and the loss of every iteration."""
    checkpoint = torch.load(folder / "work" / f"epoch_{EPOCHS}.pth", weights_only=False)
    hub = checkpoint["message_hub"]
    state = {key: checkpoint[key] for key in ("state_dict", "optimizer", "param_schedulers")}
    return state, hub["log_scalars"]["train/loss"].data[0].tolist()


def is_same(one, other) -> bool:
    """Compare nested containers, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def wait(process: int, folder: Path) -> None:
    _, status = os.waitpid(process, 0)
    if status:
        raise SystemExit(f"a training ended by itself with {status}:\n{(folder / 'console.txt').read_text()[-3000:]}")


def kill_at(process: int, seconds: float, writing: Path | None = None) -> bool:
    """Kill a process after some time, unless it ends before; tell whether it was killed.

    With ``writing``, the time counts from when a checkpoint is being written to that folder.
    """
    end = time.monotonic() + seconds if writing is None else None
    while end is None or time.monotonic() < end:
        if end is None and any(writing.glob(".*.tmp")):
            end = time.monotonic() + seconds
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            if status:
                raise SystemExit(f"a training ended by itself with {status}")
            return False
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def describe(work: Path) -> str:
    """Say what a kill left."""
    partial = [path.name for path in work.glob(".*.tmp")]
    kept = sorted(path.name for path in work.glob("epoch_*.pth"))
    damaged = [path.name for path in work.glob("*.pth") if damage_of(path)]
    if damaged:
        raise SystemExit(f"half written, under a final name: {damaged}")
    return f"{', '.join(kept) or 'no checkpoint yet'}{' and a half-written one' if partial else ''}"


def check_end(folder: Path, expected: tuple[dict, list[float]]) -> None:
    if not is_same(final_state(folder), expected):
        raise SystemExit(f"{folder}: the weights or losses differ from those of the training that was left alone")
    work = folder / "work"
    kept = sorted(path.name for path in work.iterdir() if path.is_file())
    if [name for name in kept if name.startswith("epoch_") or name.endswith(".tmp")] != [f"epoch_{EPOCHS}.pth"]:
        raise SystemExit(f"{work} should keep one checkpoint and the best, but has {kept}")


def main(kills: int, seed: int, folder: Path) -> None:
    moments = random.Random(seed)
    print(f"{kills} kills, seed {seed}")
    for name in LATE_IMPORTS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    alone = folder / "alone"
    alone.mkdir()
    began = time.monotonic()
    wait(train_in_fork(alone), alone)
    duration = time.monotonic() - began
    expected = final_state(alone)
    print(f"left alone: {duration:.1f} s, {len(expected[1])} iterations")
    done = hits = trainings = 0
    while done < kills:
        trainings += 1
        part = folder / f"part{trainings}"
        part.mkdir()
        while True:
            process = train_in_fork(part)
            if done == kills:
                wait(process, part)
                break
            is_aimed = moments.random() < 1 / 3
            moment = moments.uniform(0, PAUSE if is_aimed else duration)
            if not kill_at(process, moment, part / "work" if is_aimed else None):
                break
            done += 1
            where = "writing in training" if is_aimed else "training"
            said = describe(part / "work")
            hits += "half-written" in said
            print(f"kill {done} after {moment:.2f} s of {where} {trainings}: {said}", flush=True)
        check_end(part, expected)
    print(f"{done} kills, {hits} of them while a checkpoint was written; {trainings} trainings, all as left alone")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        main(args.kills, args.seed, Path(made))
