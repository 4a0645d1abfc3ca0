"""The segmentation-based rivals, on made cells whose classes are known."""

import numpy as np
import pytest
from scipy.linalg import inv, sqrtm

from milcnn import profiles


@pytest.fixture
def correlated():
    rng = np.random.default_rng(0)
    return rng.normal(5, 1, (400, 6)) @ rng.normal(0, 1, (6, 6))


def test_sphered_reference_has_mean_0_and_covariance_identity(correlated):
    sphered = profiles.sphering(correlated, correlated, regularisation=1e-9)
    np.testing.assert_allclose(sphered.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(sphered.T), np.eye(6), atol=1e-5)


@pytest.mark.parametrize("n", [4, 400])  # fewer and more controls than features
def test_sphering_is_the_inverse_root_of_the_regularised_covariance(correlated, n):
    reference, others = correlated[:n], correlated[-9:]
    covariance = np.cov(reference.T)
    root = inv(sqrtm(covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6)))
    expected = (others - reference.mean(axis=0)) @ root
    np.testing.assert_allclose(profiles.sphering(reference, others, 0.1), expected, rtol=1e-6, atol=1e-6)


def test_sphering_says_why_it_cannot(correlated):
    with pytest.raises(ValueError, match="regularisation: 0 is not above 0"):
        profiles.sphering(correlated, correlated, 0)
    with pytest.raises(ValueError, match="do not differ"):
        profiles.sphering(np.ones((3, 2)), correlated[:, :2])
