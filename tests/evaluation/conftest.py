from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from tests.evaluation.scenes import random_detections, random_truth


@pytest.fixture
def scene(tmp_path):
    """Truth, detections and the path of the truth's file."""
    rng = np.random.default_rng(3)
    truth = random_truth(rng)
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    return truth, random_detections(rng, truth), str(path)


@pytest.fixture
def log(monkeypatch):
    """The records that a metric writes to the current logger."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.INFO)
    yield records
    logger.removeHandler(handler)
