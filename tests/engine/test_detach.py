"""NanoDet-Plus detaches its auxiliary parts at the epoch that the runner counts, after a resume too."""

import pytest
from mmengine.config import ConfigDict

from densehead.apis import prepare_training, train
from densehead.models import NanoDetPlus
from tests.engine.test_resume import Crash
from tests.engine.tiny import losses, tiny_config
from tests.models.heads import nanodet


@pytest.fixture
def detached(monkeypatch):
    """Return a list that is told, iteration by iteration, whether the auxiliary neck read detached maps."""
    seen = []
    auxiliary = NanoDetPlus._auxiliary

    def watched(self, stages, maps):
        listener = self.aux_neck.register_forward_pre_hook(
            lambda _, args: seen.append(not args[0][0].requires_grad),
        )
        try:
            return auxiliary(self, stages, maps)
        finally:
            listener.remove()

    monkeypatch.setattr(NanoDetPlus, "_auxiliary", watched)
    return seen


def run(folder, data_root, *, stop=None, resume=None):
    hooks = [{"type": "StopAt", **stop}] if stop else []
    options = {"default_hooks__summary": None, "train_cfg__max_epochs": 2, "train_cfg__val_interval": 9}
    cfg = tiny_config(folder, data_root, custom_hooks=hooks, **options)
    model = nanodet.detector_config(detach_epoch=1, data_preprocessor=cfg.model.data_preprocessor.to_dict())
    model["bbox_head"]["num_classes"] = 10
    cfg.model = ConfigDict(model)
    cfg.optim_wrapper.optimizer.lr = 0.001
    return train(prepare_training(cfg, resume=resume))


def test_detached_at_its_epoch_and_after_a_resume(tmp_path, data_root, detached):
    whole = run(tmp_path / "whole", data_root)
    assert detached == [False] * 4 + [True] * 4  # four iterations an epoch
    detached.clear()
    with pytest.raises(Crash):
        run(tmp_path / "part", data_root, stop={"at": 6})
    detached.clear()
    resumed = run(tmp_path / "part", data_root, resume="auto")
    assert detached == [True] * 4
    assert losses(resumed) == losses(whole)
