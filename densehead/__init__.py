"""Dense object-detection heads (FCOS, ATSS, ...) built from config dicts: any head, any assigner, any loss.

Axes, in this order in names, docstrings and small tensors (the big maps stay as they lie in memory):

======  =======================================================================
``B``   images of a batch
``G``   ground truths of an image, padded to the largest count of the batch
``P``   priors (points or anchors) over all pyramid levels
``C``   classes
``L``   pyramid levels
``A``   priors at one place of a level (1 for point-based heads)
``K``   candidates of a ground truth
``N``   positives, gathered over the batch
======  =======================================================================
"""

from densehead.version import __version__, check_dependencies

check_dependencies()

from densehead import datasets, engine, evaluation, models, visualization  # noqa: E402, F401

__all__ = ["__version__"]
