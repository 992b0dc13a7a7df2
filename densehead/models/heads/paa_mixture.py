"""Mixtures of two one-dimensional Gaussians, fitted to the losses of all ground truths of a batch at once.

PAA (section 3.1) takes the losses of a ground truth's candidates for a mixture of two Gaussians and fits it by
expectation maximisation (EM). Start and stopping rule here are those of scikit-learn's ``GaussianMixture`` as PAA
calls it: means at the least and the greatest loss, equal weights, unit variances; a mixture stops when the mean
log-likelihood of its samples changes by less than ``TOLERANCE``, and stays as it is while others go on.

In one dimension scikit-learn's covariance types ``full``, ``diag`` and ``spherical`` are the same model; ``tied`` gives
both components one variance. Variances are sums of squared deviations here, in float64. scikit-learn takes the
difference of two squares for three of its types, and squares samples that come in float32 in float32: a variance below
a ten-millionth of the loss squared does not survive that, and where it comes out negative scikit-learn raises an error.
Fed float64, it assigns samples as this does, unless two components coincide but for its rounding (losses that are the
same to 1e-4).
"""

from __future__ import annotations

import math
import warnings
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
TOLERANCE = 1e-3
MAX_ITERATIONS = 100
VARIANCE_FLOOR = 1e-6  # added to every variance
_EPS = torch.finfo(torch.float64).eps
_TIE = 1e-12  # two components no farther apart than rounding are one, which is that of low losses
# After how many iterations to see which mixtures go on. Looking ends the loop early and leaves the rest less to
# do, but on a GPU it waits for all that was queued, which costs more than a few iterations of tensors this small.
_LOOK_EVERY = {"cpu": 1}
_LOOK_EVERY_ELSEWHERE = 16
_ROWS_ON_HOST = 1024  # fitted together; their numbers stay in a core's cache
Array = np.ndarray | Tensor


def fit_mixtures(samples: Tensor, is_real: Tensor, covariance_type: str = "diag") -> tuple[Tensor, Tensor]:
    """Fit a mixture to each row of samples and say which component every sample belongs to.

    Args:
        samples: (T, M), finite where ``is_real``.
        is_real: (T, M) bool, False where padded. A row of fewer than two samples is not fitted.
        covariance_type: one of ``COVARIANCE_TYPES``.

    Returns:
        (T, M) int64, 0 where a sample belongs to the component of low losses, 1 where to the other;
        (T, M) log-density of the fitted mixture at the samples, float64. Both mean nothing where padded.
    """
    precision = torch.float32 if samples.device.type == "mps" else torch.float64  # which has no float64
    samples = samples.detach().to(precision).masked_fill(~is_real, 0)
    parameters = _fit(samples, is_real, covariance_type == "tied")
    low, high = _log_joint(torch, parameters, samples.T).transpose(1, 2)
    return ((high - low > _TIE) & is_real).long(), torch.logaddexp(low, high)


def fit_by_sklearn(samples: Tensor, is_real: Tensor, covariance_type: str = "diag") -> tuple[Tensor, Tensor]:
    """Do what :func:`fit_mixtures` does by scikit-learn: one row after the other, on the host.

    A row that scikit-learn gives up, because rounding left it a negative variance, :func:`fit_mixtures` does.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    fit_one = _sklearn_fit(covariance_type)
    component = torch.zeros(samples.shape, dtype=torch.long, device=samples.device)
    log_density = torch.zeros(samples.shape, dtype=torch.float64, device=samples.device)
    for row in torch.nonzero(is_real.sum(1) > 1).squeeze(1).tolist():
        mine = slice(row, row + 1)
        try:
            component[row, is_real[row]], log_density[row, is_real[row]] = fit_one(samples[row, is_real[row]])
        except ValueError:
            component[mine], log_density[mine] = fit_mixtures(samples[mine], is_real[mine], covariance_type)
    return component, log_density


def _sklearn_fit(covariance_type: str):
    """Return what fits (n,) samples by scikit-learn, to (n,) components and (n,) log-densities."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError(
            "bbox_head.gmm='sklearn' needs scikit-learn: pip install scikit-learn, or leave gmm at 'torch'"
        ) from error
    shape = {"full": (2, 1, 1), "tied": (1, 1), "diag": (2, 1), "spherical": (2,)}[covariance_type]

    def fit_one(samples: Tensor) -> tuple[Tensor, Tensor]:
        values = samples.detach().cpu().double().numpy()[:, None]
        mixture = GaussianMixture(
            2,
            covariance_type=covariance_type,
            weights_init=np.full(2, 0.5),
            means_init=np.array([[values.min()], [values.max()]]),
            precisions_init=np.ones(shape),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(values)
        return (
            torch.from_numpy(mixture.predict(values)).to(samples.device),
            torch.from_numpy(mixture.score_samples(values)).to(samples.device),
        )

    return fit_one


def _fit(samples: Tensor, is_real: Tensor, is_tied: bool) -> Tensor:
    """Return weights, means and variances, (3, 2, T), of the mixtures of all rows, the component of low losses first.

    On the host NumPy computes them: there are thousands of operations on a few kilobytes each, which it starts in a
    fraction of torch's time. Rows of about as many samples are fitted together, so that little of them is padding.
    """
    device = samples.device.type
    if device != "cpu":
        every = _LOOK_EVERY.get(device, _LOOK_EVERY_ELSEWHERE)
        return _fit_together(torch, samples.T.contiguous(), is_real.T.to(samples.dtype), is_tied, every)
    values, is_real, count = samples.numpy(), is_real.numpy(), is_real.sum(1).numpy()
    fitted = np.ones((3, 2, len(samples)))
    order = count.argsort(kind="stable")[np.count_nonzero(count < 2) :]
    with np.errstate(all="ignore"):  # a component may lose all samples: weight 0, of which the logarithm is -inf
        for start in range(0, len(order), _ROWS_ON_HOST):
            rows = order[start : start + _ROWS_ON_HOST]
            place = rows, np.flatnonzero(is_real[rows].any(0))[:, None]
            some, are_real = values[place], is_real[place].astype(values.dtype)
            fitted[..., rows] = _fit_together(np, some, are_real, is_tied, _LOOK_EVERY["cpu"])
    return torch.from_numpy(fitted)


def _fit_together(xp: ModuleType, samples: Array, is_real: Array, is_tied: bool, look_every: int) -> Array:
    """Return the parameters (3, 2, T) of the mixtures of samples (M, T), which count where ``is_real`` is 1, not 0.

    Rows that still change are packed together as others stop; ``final`` collects the parameters of all.

    Args:
        xp: whose arrays these are, ``numpy`` or ``torch``.
    """
    parameters = _start(xp, samples, is_real)
    final = row = None  # until rows are packed
    count = is_real.sum(0)
    goes_on, bound = count > 1, count * 0 - xp.inf
    for iteration in range(MAX_ITERATIONS):
        if iteration % look_every == 0:
            left = xp.argwhere(goes_on)[:, 0]
            if not len(left):
                break
            if 4 * len(left) < 3 * len(count):
                if row is None:
                    final, row = parameters, left
                else:
                    final[..., row], row = parameters, row[left]
                parameters, samples, is_real, count, goes_on, bound = (
                    _pick(one, left) for one in (parameters, samples, is_real, count, goes_on, bound)
                )
        last_bound = bound
        updated, bound = _step(xp, parameters, samples, is_real, count, is_tied)
        parameters = xp.where(goes_on, updated, parameters)
        goes_on = goes_on & ~(abs(bound - last_bound) < TOLERANCE)
    if row is None:
        return parameters
    final[..., row] = parameters
    return final


def _pick(array: Array, columns: Array) -> Array:
    """Return ``array[..., columns]``; NumPy's own indexing would turn the order of the axes in memory."""
    return array.take(columns, -1) if isinstance(array, np.ndarray) else array.index_select(-1, columns)


def _start(xp: ModuleType, samples: Array, is_real: Array) -> Array:
    """Means at the least and the greatest sample, equal weights, unit variances."""
    low = xp.amin(xp.where(is_real > 0, samples, xp.inf), 0)
    high = xp.amax(xp.where(is_real > 0, samples, -xp.inf), 0)
    means = xp.stack([low, high])
    return xp.stack([xp.full_like(means, 0.5), means, xp.ones_like(means)])


def _step(
    xp: ModuleType, parameters: Array, samples: Array, is_real: Array, count: Array, is_tied: bool
) -> tuple[Array, Array]:
    """One iteration: the parameters after it, and the mean log-likelihood (T,) before it."""
    share = _log_joint(xp, parameters, samples)
    log_density = _log_sum(xp, share)
    share -= log_density
    xp.exp(share, out=share)
    share *= is_real
    log_density *= is_real
    size = share.sum(1) + 10 * _EPS  # so that a component that lost all samples has a mean
    means = (share * samples).sum(1) / size
    squared = samples - means[:, None]
    squared *= squared
    squared *= share
    scatter = squared.sum(1)
    variances = scatter.sum(0) / size.sum(0) + 0 * scatter if is_tied else scatter / size
    return xp.stack([size / size.sum(0), means, variances + VARIANCE_FLOOR]), log_density.sum(0) / count


def _log_joint(xp: ModuleType, parameters: Array, samples: Array) -> Array:
    """Return (2, M, T): log of weight times density of each component at samples (M, T)."""
    weights, means, variances = parameters
    constant = xp.log(weights) - 0.5 * (math.log(2 * math.pi) + xp.log(variances))
    joint = samples - means[:, None]
    joint *= joint
    joint *= (-0.5 / variances)[:, None]
    joint += constant[:, None]
    return joint


def _log_sum(xp: ModuleType, joint: Array) -> Array:
    """Return (M, T): the log of the sum of what (2, M, T) are the logs of."""
    if xp is torch:
        return torch.logaddexp(joint[0], joint[1])
    less = -abs(joint[1] - joint[0])  # NumPy's own function for this takes five times as long
    np.exp(less, out=less)
    np.log1p(less, out=less)
    less += np.maximum(joint[0], joint[1])
    return less
