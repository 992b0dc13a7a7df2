"""Pascal VOC."""

from __future__ import annotations

from densehead.datasets.xml_style import XMLDataset
from densehead.registry import DATASETS
from densehead.visualization.palette import class_colors

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on


@DATASETS.register_module()
class VOCDataset(XMLDataset):
    """Pascal VOC 2007 and 2012 (http://host.robots.ox.ac.uk/pascal/VOC), or other classes in their layout.

    ``metainfo['dataset_type']`` is ``'VOC2007'`` or ``'VOC2012'`` where the sub data root says so, else None; a
    ``ConcatDataset`` of both needs ``ignore_keys=['dataset_type']``.
    """

    METAINFO = {"classes": VOC_CLASSES, "palette": class_colors(None, len(VOC_CLASSES))}

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        years = (year for year in ("VOC2007", "VOC2012") if year in self.sub_data_root)
        self._metainfo["dataset_type"] = next(years, None)
