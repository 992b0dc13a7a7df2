"""The mixtures of PAA against scikit-learn's, sample by sample."""

import sys
import warnings

import numpy as np
import pytest
import torch

from densehead.models.heads import paa_mixture
from densehead.models.heads.paa_mixture import COVARIANCE_TYPES, fit_by_sklearn, fit_mixtures

all_types = pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
MOST = 45  # nine candidates of each of five levels


def random_losses(rng, kind, size):
    """Two clusters, one skewed cluster, evenly spread, or in a narrow range."""
    if kind == 0:
        low = rng.integers(1, size) if size > 1 else 1
        return np.r_[rng.normal(rng.uniform(0.5, 2), 0.3, low), rng.normal(rng.uniform(1, 5), 0.6, size - low)]
    if kind == 1:
        return rng.gamma(rng.uniform(0.5, 4), rng.uniform(0.1, 2), size)
    if kind == 2:
        return rng.uniform(0, rng.choice([0.1, 1, 5]), size)
    return rng.uniform(1, 3) + rng.normal(0, rng.choice([1e-4, 1e-2, 0.1]), size)


def random_rows(count, seed=0, least=2):
    """Losses of ``least`` to ``MOST`` candidates a row, sorted and padded."""
    rng = np.random.default_rng(seed)
    samples, is_real = torch.zeros(count, MOST), torch.zeros(count, MOST, dtype=torch.bool)
    for row in range(count):
        size = rng.integers(least, MOST + 1)
        samples[row, :size] = torch.from_numpy(np.sort(np.abs(random_losses(rng, row % 4, size))))
        is_real[row, :size] = True
    return samples, is_real


def reference(values, covariance_type):
    """Components and log-densities by scikit-learn, called as mmdetection does, in float64."""
    from sklearn.mixture import GaussianMixture

    values = values.double().numpy()[:, None]
    shape = {"full": (2, 1, 1), "tied": (1, 1), "diag": (2, 1), "spherical": 2}[covariance_type]
    mixture = GaussianMixture(
        2,
        weights_init=np.array([0.5, 0.5]),
        means_init=np.array([values.min(), values.max()]).reshape(2, 1),
        precisions_init=np.ones(shape),
        covariance_type=covariance_type,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture.fit(values)
    # scikit-learn takes variances and distances as differences of squares: which of two components that all but
    # coincide is the likelier one, its rounding decides
    is_decided = abs(mixture.predict_proba(values)[:, 0] - 0.5) > 1e-8
    return mixture.predict(values), mixture.score_samples(values), is_decided


def compare(samples, is_real, covariance_type):
    """Return (rows with a sample in another component, rows that are not decided, largest error of a log-density)."""
    component, log_density = fit_mixtures(samples, is_real, covariance_type)
    differing, open_rows, worst = 0, 0, 0.0
    for row, mask in enumerate(is_real):
        expected, expected_density, is_decided = reference(samples[row, mask], covariance_type)
        mine = component[row, mask].numpy()
        differing += (mine != expected)[is_decided].any()
        open_rows += not is_decided.all()
        worst = max(worst, abs(log_density[row, mask].numpy() - expected_density).max())
    return differing, open_rows, worst


@all_types
def test_scikit_learn_assigns_the_same(covariance_type):
    differing, open_rows, worst = compare(*random_rows(100), covariance_type)
    assert differing == 0
    assert open_rows < 15  # narrow ones: losses that are the same to 1e-4
    assert worst < 1e-6


@pytest.mark.slow
@all_types
def test_scikit_learn_assigns_ten_thousand_the_same(covariance_type):
    differing, open_rows, worst = compare(*random_rows(10_000, seed=1), covariance_type)
    assert differing == 0
    assert open_rows < 1500
    assert worst < 1e-6


@all_types
def test_rows_do_not_see_each_other(covariance_type):
    """A row that goes on when others have stopped is packed with others: it ends as it does alone."""
    samples, is_real = random_rows(60, seed=2)
    component, log_density = fit_mixtures(samples, is_real, covariance_type)
    for row in range(60):
        alone = fit_mixtures(samples[row : row + 1], is_real[row : row + 1], covariance_type)
        assert torch.equal(alone[0][0], component[row])
        torch.testing.assert_close(alone[1][0], log_density[row], rtol=1e-12, atol=1e-12)


@all_types
def test_either_library_fits_the_same(covariance_type):
    """Off the host torch does it, all rows together."""
    samples, is_real = random_rows(100, seed=9)
    is_tied = covariance_type == "tied"
    samples = samples.double()
    expected = paa_mixture._fit(samples, is_real, is_tied)
    found = paa_mixture._fit_together(torch, samples.T, is_real.T.double(), is_tied, look_every=16)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_rows_fitted_apart_end_at_the_same(monkeypatch):
    rows = random_rows(100, seed=3, least=0)
    expected = fit_mixtures(*rows)
    monkeypatch.setattr(paa_mixture, "_ROWS_ON_HOST", 7)
    for value, other in zip(fit_mixtures(*rows), expected):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)


def test_looking_rarely_ends_at_the_same(monkeypatch):
    rows = random_rows(100, seed=3)
    expected = fit_mixtures(*rows)
    monkeypatch.setattr(paa_mixture, "_LOOK_EVERY", {"cpu": 16})
    for value, other in zip(fit_mixtures(*rows), expected):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)


def test_padding_may_stand_anywhere_and_hold_anything():
    samples, is_real = random_rows(20, seed=4)
    component, log_density = fit_mixtures(samples, is_real)
    order = torch.randperm(MOST, generator=torch.Generator().manual_seed(0))
    filled = samples.masked_fill(~is_real, torch.nan)[:, order]
    mixed = fit_mixtures(filled, is_real[:, order])
    assert torch.equal(mixed[0][is_real[:, order]], component[:, order][is_real[:, order]])
    torch.testing.assert_close(mixed[1][is_real[:, order]], log_density[:, order][is_real[:, order]])


def test_two_clusters_by_hand():
    component, _ = fit_mixtures(torch.tensor([[1.0, 1.1, 1.2, 5.0, 5.1]]), torch.ones(1, 5, dtype=torch.bool))
    assert component.tolist() == [[0, 0, 0, 1, 1]]


def test_one_variance_for_both_is_another_model():
    """A wide component takes the lowest sample from a narrow one, unless both are as wide."""
    rows = random_rows(200, seed=5)
    own, shared = fit_mixtures(*rows, "full")[0], fit_mixtures(*rows, "tied")[0]
    assert not torch.equal(own, shared)
    assert (shared.diff(dim=1)[rows[1][:, 1:]] >= 0).all()  # one border: losses ascend
    assert torch.equal(own, fit_mixtures(*rows, "diag")[0])


@all_types
@pytest.mark.parametrize("fit", [fit_mixtures, fit_by_sklearn])
@pytest.mark.parametrize("width", [0.0, 1e-12, 1e-7, 1e-3])
@pytest.mark.parametrize("level", [0.0, 3.0, 1e6, 1e30])
def test_samples_that_are_nearly_the_same(fit, covariance_type, width, level):
    samples = (level * (1 + width * torch.arange(9, dtype=torch.float64)))[None]
    component, log_density = fit(samples, torch.ones(1, 9, dtype=torch.bool), covariance_type)
    assert log_density.isfinite().all()
    if fit is fit_mixtures:
        assert not component.all()
    if samples.unique().numel() == 1:
        assert not component.any()


@pytest.mark.parametrize("fit", [fit_mixtures, fit_by_sklearn])
def test_rows_of_fewer_than_two(fit):
    samples, is_real = torch.tensor([[1.0, 2.0], [1.0, 9.0], [7.0, 9.0]]), torch.zeros(3, 2, dtype=torch.bool)
    is_real[0], is_real[1, 0] = True, True
    component, log_density = fit(samples, is_real)
    assert component[1, 0] == 0
    assert log_density[:2].isfinite().all()
    assert fit(torch.zeros(0, 5), torch.zeros(0, 5, dtype=torch.bool))[0].shape == (0, 5)


def test_no_gradient_and_autocast_change_nothing():
    samples, is_real = random_rows(20, seed=6)
    expected = fit_mixtures(samples, is_real)
    with torch.autocast("cpu", torch.bfloat16):
        result = fit_mixtures(samples.requires_grad_(), is_real)
    assert not result[1].requires_grad
    assert result[1].dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(result, expected))


@all_types
def test_scikit_learn_by_config_gives_the_same(covariance_type):
    samples, is_real = random_rows(40, seed=7, least=1)
    theirs, ours = (fit(samples, is_real, covariance_type) for fit in (fit_by_sklearn, fit_mixtures))
    mask = is_real & (is_real.sum(1, keepdim=True) > 1)
    torch.testing.assert_close(theirs[1][mask], ours[1][mask], rtol=1e-6, atol=1e-6)
    mask[2::4] = mask[3::4] = False  # among them are narrow ones, see reference()
    assert torch.equal(theirs[0][mask], ours[0][mask])


def test_scikit_learn_is_imported_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    fit_mixtures(*random_rows(3))
    with pytest.raises(ImportError, match=r"gmm='sklearn' needs scikit-learn: pip install"):
        fit_by_sklearn(*random_rows(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@all_types
def test_on_a_gpu(covariance_type):
    samples, is_real = random_rows(2000, seed=8)
    expected, density = fit_mixtures(samples, is_real, covariance_type)
    component, log_density = fit_mixtures(samples.cuda(), is_real.cuda(), covariance_type)
    assert torch.equal(component.cpu()[is_real], expected[is_real])
    torch.testing.assert_close(log_density.cpu()[is_real], density[is_real], rtol=1e-9, atol=1e-9)
