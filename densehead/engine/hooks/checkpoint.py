"""Checkpoints during training, of which one that is whole is there at any moment."""

from __future__ import annotations

from collections import deque

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.logging import print_log

from densehead.files import remove_leftovers
from densehead.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook, with the same keys, that removes an old checkpoint after the new one is written, not before.

    So a kill or a full disk in the middle of writing leaves the one of before with ``max_keep_ckpts=1`` too. What
    killed runs left half written is removed when training begins.
    """

    def before_train(self, runner) -> None:
        """Find out where checkpoints go, and clear what a killed run left there."""
        super().before_train(runner)
        if not is_main_process() or "://" in self.out_dir:
            return
        removed = remove_leftovers(self.out_dir, ".pth")
        if removed:
            print_log(f"Removed what a killed run left half written: {', '.join(removed)}", logger="current")

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        limit = self.max_keep_ckpts
        if limit <= 0:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        steps = [*(one for one in self.keep_ckpt_ids if one != step), step]
        # with those that are outdated: what a kill leaves of them is removed when the training is resumed
        runner.message_hub.update_info("keep_ckpt_ids", steps)
        self.max_keep_ckpts = -1  # mmengine's own removal comes first
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = limit
        self.keep_ckpt_ids = deque(steps[-limit:], limit)
        if is_main_process():
            for outdated in steps[:-limit]:
                self._remove(outdated)

    def _remove(self, step: int) -> None:
        path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's checkpoints are folders
            self.file_backend.rmtree(path)
