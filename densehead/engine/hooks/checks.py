"""Checks that need the built runner: of classes and of the checkpoint."""

from __future__ import annotations

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict

from densehead.engine.checks import check_classes, compare_states
from densehead.registry import HOOKS


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Compares the head's ``num_classes`` with the classes of the data sets before the first batch of each.

    Raises:
        ValueError: they differ; the message names both and what to set.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        """Check the training set, and the validation set rather now than after an epoch."""
        check_classes(runner.model, runner.train_dataloader.dataset, "train_dataloader.dataset")
        if runner.val_loop is not None:
            check_classes(runner.model, runner.val_dataloader.dataset, "val_dataloader.dataset")

    def before_val(self, runner) -> None:
        """Check the validation set."""
        check_classes(runner.model, runner.val_dataloader.dataset, "val_dataloader.dataset")

    def before_test(self, runner) -> None:
        """Check the test set."""
        check_classes(runner.model, runner.test_dataloader.dataset, "test_dataloader.dataset")


@HOOKS.register_module()
class CheckpointCheckHook(Hook):
    """Refuses a checkpoint of another architecture, before anything of it is loaded.

    To resume and to test, names and shapes must all be the same. To start training from one (``load_from``) parts may
    differ, such as a head for other classes: that is said once; only a checkpoint of which nothing fits is refused.

    Args:
        strict: whether to test with a checkpoint that fits in part is an error.

    Raises:
        ValueError: the checkpoint does not fit; the message says how many parameters differ, and which.
    """

    priority = "LOWEST"  # after hooks that change what is loaded, such as EMAHook

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
        self._classes: tuple | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model."""
        meta = checkpoint.get("meta") or {}
        self._classes = (meta.get("dataset_meta") or {}).get("classes")
        difference = compare_states(runner.model, checkpoint)
        is_training = isinstance(runner.optim_wrapper, OptimWrapper | OptimWrapperDict)
        file = runner._load_from or "the checkpoint"
        if not difference.matching:
            raise ValueError(f"{file}: nothing in it fits this model; it {difference or 'is empty'}")
        if not difference:
            return
        if is_training and not runner._resume:
            total = len(difference.matching) + len(difference.missing) + len(difference.mismatched)
            print_log(
                f"{file}: {len(difference.matching)} of {total} parameters and buffers are loaded, the others stay as "
                f"initialised; the file {difference}",
                logger="current",
                level=logging.WARNING,
            )
        elif runner._resume or self.strict:
            raise ValueError(
                f"{file} is a checkpoint of another architecture: it {difference}. Use the config it was trained with"
                + ("" if runner._resume else " (or, if that is meant, default_hooks.check_checkpoint.strict=False)")
            )

    def before_test(self, runner) -> None:
        """Say so where the checkpoint was trained for other class names than those of the test set."""
        classes = (getattr(runner.test_dataloader.dataset, "metainfo", None) or {}).get("classes")
        if self._classes and classes and tuple(self._classes) != tuple(classes):
            print_log(
                f"the checkpoint was trained for the classes {tuple(self._classes)}, the test set has "
                f"{tuple(classes)}; they are matched by position",
                logger="current",
                level=logging.WARNING,
            )
