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
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Mixtures:
    """Parameters of ``T`` mixtures: (2, T) each, the component of low losses first."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_joint(self, samples: Tensor) -> Tensor:
        """Return (2, T, M): log of weight times density of each component at samples (T, M)."""
        constant = self.weights.log() - 0.5 * (math.log(2 * math.pi) + self.variances.log())
        squared = (samples - self.means[..., None]).square_()
        return torch.addcmul(constant[..., None], squared, (-0.5 / self.variances)[..., None])

    def stacked(self) -> Tensor:
        """Return all parameters as (3, 2, T)."""
        return torch.stack([self.weights, self.means, self.variances])


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
    log_joint = _fit(samples, is_real, covariance_type == "tied").log_joint(samples)
    return (log_joint[1] - log_joint[0] > _TIE).long(), torch.logaddexp(log_joint[0], log_joint[1])


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


def _fit(samples: Tensor, is_real: Tensor, is_tied: bool) -> Mixtures:
    """Return the fitted mixtures of all rows.

    Rows that still change are packed together as others stop; ``final`` collects the parameters of all.
    """
    every = _LOOK_EVERY.get(samples.device.type, _LOOK_EVERY_ELSEWHERE)
    mixtures = _start(samples, is_real)
    final = mixtures.stacked()
    row = torch.arange(len(samples), device=samples.device)
    count = is_real.sum(1)
    has_stopped = count < 2
    bound = samples.new_full((len(samples),), -torch.inf)
    for iteration in range(MAX_ITERATIONS):
        if iteration % every == 0:
            goes_on = torch.nonzero(~has_stopped).squeeze(1)
            if not len(goes_on):
                break
            if 4 * len(goes_on) < 3 * len(row):
                final[..., row] = mixtures.stacked()
                mixtures = Mixtures(*mixtures.stacked()[..., goes_on])
                samples, is_real, count, has_stopped, bound, row = (
                    one[goes_on] for one in (samples, is_real, count, has_stopped, bound, row)
                )
        last_bound = bound
        updated, bound = _step(mixtures, samples, is_real, count, is_tied)
        mixtures = Mixtures(*torch.where(has_stopped, mixtures.stacked(), updated.stacked()))
        has_stopped = has_stopped | ((bound - last_bound).abs() < TOLERANCE)
    final[..., row] = mixtures.stacked()
    return Mixtures(*final)


def _start(samples: Tensor, is_real: Tensor) -> Mixtures:
    low = samples.masked_fill(~is_real, torch.inf).amin(1)
    high = samples.masked_fill(~is_real, -torch.inf).amax(1)
    means = torch.stack([low, high])
    return Mixtures(torch.full_like(means, 0.5), means, torch.ones_like(means))


def _step(
    mixtures: Mixtures, samples: Tensor, is_real: Tensor, count: Tensor, is_tied: bool
) -> tuple[Mixtures, Tensor]:
    """One iteration: the parameters after it, and the mean log-likelihood (T,) before it."""
    log_joint = mixtures.log_joint(samples)
    log_density = torch.logaddexp(log_joint[0], log_joint[1])
    bound = log_density.masked_fill(~is_real, 0).sum(1) / count
    share = (log_joint - log_density).exp_() * is_real
    size = share.sum(-1) + 10 * _EPS  # so that a component that lost all samples has a mean
    means = (share * samples).sum(-1) / size
    scatter = (share * (samples - means[..., None]).square_()).sum(-1)
    variances = (scatter.sum(0) / size.sum(0)).expand_as(size) if is_tied else scatter / size
    return Mixtures(size / size.sum(0), means, variances + VARIANCE_FLOOR), bound
