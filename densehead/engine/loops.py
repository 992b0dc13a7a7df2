"""The training loop: mmengine's by epochs, which can be left and taken up again in the middle of an epoch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from mmengine.dist import get_world_size
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from torch.utils.data import DataLoader

from densehead.engine.files import ATOMIC
from densehead.engine.interrupt import TrainingStopped, stop_request
from densehead.files import whole_file
from densehead.registry import LOOPS

DONE = "batches_done_in_epoch"
VALIDATED = "epoch_validated"
INTERRUPTED = "interrupted.pth"


@LOOPS.register_module()
class EpochBasedTrainLoop(_EpochBasedTrainLoop):
    """mmengine's loop by epochs, with the same keys, that stops and resumes exactly.

    - On Ctrl-C or SIGTERM the iteration under way is finished and ``interrupted.pth`` is written to the work dir; a
      second signal stops at once. (On one process; with several, the last regular checkpoint is what is left.)
    - A checkpoint from the middle of an epoch (``interrupted.pth``, or of a ``CheckpointHook`` by iterations) is
      continued with the batch that was next, in the order of that epoch.
    - A training that stopped in or before the validation of an epoch begins with this validation.

    With :class:`~densehead.engine.hooks.SeedHook` the losses are then those of the uninterrupted training.
    """

    def run(self):
        """Train to the end; return the model."""
        with stop_request() as self._request:
            self.runner.call_hook("before_train")
            hub = self.runner.message_hub
            if self._epoch and not hub.get_info(DONE, 0) and hub.get_info(VALIDATED, 0) < self._epoch:
                self._validate()
            while self._epoch < self._max_epochs and not self.stop_training:
                self.run_epoch()
                self._validate()
            self.runner.call_hook("after_train")
        if self.runner.rank == 0:
            Path(self.runner.work_dir, INTERRUPTED).unlink(missing_ok=True)
        return self.runner.model

    def run_epoch(self) -> None:
        """Train on the batches of an epoch that are not done yet."""
        hub = self.runner.message_hub
        done = hub.get_info(DONE, 0)
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        # With several processes some would wait for ever for the one that stopped first.
        self._request.can_wait = get_world_size() == 1
        for index, batch in enumerate(self._batches_after(done), start=done):
            hub.update_info(DONE, index + 1)
            self.run_iter(index, batch)
            if self._request.signum is not None:
                self._stop()
        self._request.can_wait = False
        hub.update_info(DONE, 0)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _batches_after(self, done: int) -> Iterable:
        """Return the batches of the epoch without the first ``done``, which are not loaded."""
        loader = self.dataloader
        if not done:
            return loader
        if done > len(loader):
            raise ValueError(
                f"the checkpoint was written after {done} batches of an epoch, but an epoch of this config has only "
                f"{len(loader)}: resume with the data set and train_dataloader.batch_size it was written with"
            )
        return DataLoader(
            loader.dataset,
            batch_sampler=list(islice(iter(loader.batch_sampler), done, None)),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            prefetch_factor=loader.prefetch_factor,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
        )

    def _validate(self) -> None:
        """Validate if this epoch is one after which that is due."""
        self._decide_current_val_interval()
        due = self._epoch % self.val_interval == 0 or self._epoch == self._max_epochs
        if self.runner.val_loop is None or self._epoch < self.val_begin or not due:
            return
        # Noted before, so that a checkpoint that is written when the metrics are known says so.
        self.runner.message_hub.update_info(VALIDATED, self._epoch)
        self.runner.val_loop.run()

    def _stop(self) -> None:
        """Write a checkpoint of this very iteration and leave."""
        folder = self.runner.work_dir
        meta = {"epoch": self._epoch, "iter": self._iter}
        self.runner.save_checkpoint(folder, INTERRUPTED, meta=meta, backend_args={"backend": ATOMIC})
        path = os.path.join(folder, INTERRUPTED)
        with whole_file(Path(folder, "last_checkpoint")) as note:
            note.write(path.encode())
        raise TrainingStopped(self._request.signum, path)
