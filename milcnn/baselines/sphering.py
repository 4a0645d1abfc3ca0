"""Sphering (whitening): remove from profiles the variation that controls have anyway."""

import numpy as np
from sklearn.covariance import ShrunkCovariance


def sphering(reference: np.ndarray, profiles: np.ndarray, regularisation: float = 1e-2) -> np.ndarray:
    """Sphere ``profiles`` (m, D) on control profiles ``reference`` (n, D): x′ = (x − μ) (Σ + λ τ I)^(−1/2).

    μ (D,) and Σ (D, D) are the mean and the covariance of ``reference``, τ = tr Σ / D is its mean variance, and
    λ = ``regularisation`` has no unit. The root is the symmetric one (ZCA), so each feature keeps its meaning. No
    direction is stretched by more than (λ τ)^(−1/2). This limits noise in directions in which controls hardly vary, or
    not at all, as in most directions if n < D. As λ → 0 the covariance of the sphered ``reference`` goes to I.

    Returns (m, D) float64. Raises ValueError when λ is not above 0, when ``reference`` has fewer than two different
    rows, and when λ is so small that Σ + λ τ I is singular. pycytominer's Spherize is another transform: it adds ε to
    the singular values instead of λ τ to the variances (results differ by 15 to 99 % of the largest value).

    Whitening of control profiles: Ando, McLean, Berndl 2017, doi 10.1101/161422; ZCA: Kessy, Lewin, Strimmer 2018,
    doi 10.1080/00031305.2016.1277159.
    """
    if not regularisation > 0:
        raise ValueError(f"regularisation: {regularisation} is not above 0.")
    n, more = len(reference), 1 + regularisation
    # scikit-learn divides by n instead of n − 1, and by 1 + λ
    shrunk = ShrunkCovariance(store_precision=False, shrinkage=regularisation / more).fit(np.asarray(reference, float))
    variances, axes = np.linalg.eigh(shrunk.covariance_ * more * n / max(n - 1, 1))
    if not variances[0] > 0:
        raise ValueError(f"reference: the {n} profiles do not differ enough; give others or a larger regularisation.")
    return (np.asarray(profiles, float) - shrunk.location_) @ (axes / np.sqrt(variances)) @ axes.T
