"""Sphering: take out of profiles what varies between controls anyway."""

import numpy as np


def sphering(reference: np.ndarray, profiles: np.ndarray, regularisation: float = 1e-2) -> np.ndarray:
    """``profiles`` in the axes in which ``reference`` is round: x′ = (x − μ) (Σ + λ τ I)^(−1/2).

    μ (D,) and Σ (D, D) are the mean and covariance of ``reference``, τ = tr Σ / D its mean variance and
    λ = ``regularisation``. The root is the symmetric one (ZCA): x′ stays as close to x as it can, and the
    axes keep their meaning. Directions in which controls hardly vary would blow up noise; none is
    stretched by more than (λ τ)^(−1/2), and with fewer controls than features, where most directions have
    no variance at all, λ decides. As λ → 0 the covariance of the sphered ``reference`` goes to I.

    Parameters
    ----------
    reference : (n, D) profiles of controls, n ≥ 2, such as DMSO fields or wells of the training plates.
    profiles : (m, D) the profiles to transform.
    regularisation : λ > 0, without unit: it is relative to the mean variance.

    Returns
    -------
    (m, D) float64.

    Raises ValueError when λ is not above 0, or when ``reference`` has fewer than two different rows.

    Whitening of control profiles: Ando, McLean, Berndl 2017, doi 10.1101/161422; the ZCA form: Kessy,
    Lewin, Strimmer 2018, doi 10.1080/00031305.2016.1277159.
    """
    if not regularisation > 0:
        raise ValueError(f"regularisation: {regularisation} is not above 0.")
    reference = np.asarray(reference, float)
    mean = reference.mean(axis=0)
    # the variances along the axes of Σ, by the singular values of the centred rows: Σ itself is never made
    _, singular, axes = np.linalg.svd(reference - mean, full_matrices=False)
    variances = singular**2 / max(len(reference) - 1, 1)
    floor = regularisation * variances.sum() / reference.shape[1]
    if not floor > 0:
        raise ValueError(f"reference: {len(reference)} profiles that do not differ; sphering needs two that do.")
    centred = np.asarray(profiles, float) - mean
    along = centred @ axes.T  # (m, min(n, D))
    # Directions that the reference does not span have variance 0 and all get the factor of the floor
    return centred / np.sqrt(floor) + along * (1 / np.sqrt(variances + floor) - 1 / np.sqrt(floor)) @ axes
