"""Training, testing and detecting from a config."""

from densehead.apis import cli
from densehead.apis.config import prepare_test, prepare_training, show_predictions
from densehead.apis.inference import inference_detector, init_detector
from densehead.apis.options import load_config
from densehead.apis.run import build_runner, evaluate, train

__all__ = [
    "build_runner",
    "cli",
    "evaluate",
    "inference_detector",
    "init_detector",
    "load_config",
    "prepare_test",
    "prepare_training",
    "show_predictions",
    "train",
]
