"""Data sets made of data sets: mmengine's, under densehead's scope."""

from __future__ import annotations

from mmengine.dataset import ClassBalancedDataset, RepeatDataset
from mmengine.dataset import ConcatDataset as _ConcatDataset

from densehead.registry import DATASETS

# Registered here too, so that what they wrap is looked up among densehead's data sets first.
DATASETS.register_module(module=RepeatDataset)
DATASETS.register_module(module=ClassBalancedDataset)


@DATASETS.register_module()
class ConcatDataset(_ConcatDataset):
    """Data sets one after the other; they must agree in ``metainfo``, but for ``ignore_keys``."""

    def get_dataset_source(self, idx: int) -> int:
        """Return the index of the data set that image ``idx`` is from."""
        return self._get_ori_dataset_idx(idx)[0]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of an image's objects (:class:`ClassBalancedDataset` asks)."""
        source, inner = self._get_ori_dataset_idx(idx)
        return self.datasets[source].get_cat_ids(inner)
