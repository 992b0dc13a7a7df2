"""Batch samplers."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import BatchSampler, Sampler

from densehead.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class AspectRatioBatchSampler(BatchSampler):
    """Batches of images that are all upright (width < height) or all not, so that little is padded.

    What is left at the end is batched regardless, the upright ones first.

    Args:
        sampler: yields indices; its ``dataset`` tells the images' sizes.
        batch_size: images of a batch.
        drop_last: leave out the last batch where it is smaller.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        if not isinstance(sampler, Sampler):
            raise TypeError(
                f"AspectRatioBatchSampler: sampler must be a torch Sampler, but got {type(sampler).__name__}"
            )
        if not hasattr(getattr(sampler, "dataset", None), "get_data_info"):
            raise TypeError(
                "AspectRatioBatchSampler: sampler.dataset must have get_data_info(index) with 'width' and 'height', as "
                f"with DefaultSampler of a densehead data set; got a {type(sampler).__name__} without"
            )
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"AspectRatioBatchSampler: batch_size must be a positive integer, but got {batch_size!r}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        upright: list[int] = []
        other: list[int] = []
        for index in self.sampler:
            info = self.sampler.dataset.get_data_info(index)
            group = upright if info["width"] < info["height"] else other
            group.append(index)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()
        left = upright + other
        for start in range(0, len(left), self.batch_size):
            batch = left[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)
