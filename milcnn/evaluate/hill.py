"""Dose–response curves: the Hill equation, fitted to wells, with intervals from resampled wells.

    f(d) = bottom + (top − bottom) / (1 + (EC50 / d)^h)          (Hill 1910)

d is the dose in µM, f an effect in [0, 1] such as the responding fraction.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from milcnn.columns import COMPOUND, CONCENTRATION, LABEL

BOTTOM, TOP, SLOPE = (0.0, 0.2), (0.0, 1.0), (0.5, 4.0)  # bounds of a fit; those of EC50 are the tested doses
LEAST_RISE = 0.1  # a curve whose effect rises less has no EC50
WELL_RESAMPLES = 100  # of the wells of a compound: enough for two digits of a 95 % interval
BY = ["method", "seed", COMPOUND]


class Hill(NamedTuple):
    """A curve: ``bottom`` and ``top`` in [0, 1], ``ec50`` in µM (NaN without a response), ``slope`` h."""

    bottom: float
    top: float
    ec50: float
    slope: float


def hill(dose: np.ndarray, curve: Hill) -> np.ndarray:
    """f(d) of ``curve`` at ``dose`` (n,) in µM, above 0; flat at ``bottom`` if the curve has no EC50."""
    if np.isnan(curve.ec50):
        return np.full(np.shape(dose), curve.bottom)
    return curve.bottom + (curve.top - curve.bottom) / (1 + (curve.ec50 / dose) ** curve.slope)


def fit_hill(dose: np.ndarray, effect: np.ndarray) -> Hill:
    """The least-squares curve, in log EC50, of ``dose`` (n,) in µM, above 0, and ``effect`` (n,) of n wells.

    If it rises by less than ``LEAST_RISE`` or does not converge, it is flat at the mean effect, without EC50.
    """
    x = np.log(dose)
    low, high = np.array([BOTTOM, TOP, (x.min(), x.max() + 1e-9), SLOPE]).T  # 1e-9: low < high for a single dose
    start = np.clip([effect.min(), effect.max(), x.mean(), 1.5], low + 1e-6, high - 1e-10)

    def residuals(values: np.ndarray) -> np.ndarray:
        bottom, top, middle, slope = values
        return bottom + (top - bottom) * (1 / (1 + np.exp(slope * (middle - x)))) - effect

    def jacobian(values: np.ndarray) -> np.ndarray:
        bottom, top, middle, slope = values
        share = 1 / (1 + np.exp(slope * (middle - x)))
        steep = (top - bottom) * share * (1 - share)
        return np.stack([1 - share, share, -slope * steep, (x - middle) * steep], axis=1)

    fit = least_squares(residuals, start, jacobian, bounds=(low, high))
    bottom, top, middle, slope = fit.x
    if not fit.success or top - bottom < LEAST_RISE:
        return Hill(effect.mean(), effect.mean(), np.nan, np.nan)
    return Hill(bottom, top, float(np.exp(middle)), slope)


def resampled(dose: np.ndarray, effect: np.ndarray, resamples: int = WELL_RESAMPLES) -> list[Hill]:
    """The curves of ``resamples`` bootstrap samples of the n wells."""
    draws = np.random.default_rng(0).integers(0, len(dose), (resamples, len(dose)))
    return [fit_hill(dose[draw], effect[draw]) for draw in draws]


def curves(wells: pd.DataFrame, resamples: int = WELL_RESAMPLES) -> pd.DataFrame:
    """The curve of each method, seed and compound of ``wells``, see ``responding_fraction.well_means``.

    Columns: these, ``Metadata_Label``, those of ``Hill``, ``low``, ``high``, ``true_ec50`` (µM). ``low`` to ``high`` is
    the 95 % percentile interval of EC50 over ``resamples`` of the wells; resamples without EC50 are left out.
    """
    rows = []
    for key, members in wells.groupby(BY, sort=False):
        dose, effect = members[CONCENTRATION].to_numpy(), members["responding_fraction"].to_numpy()
        curve = fit_hill(dose, effect)
        low, high = np.nan, np.nan
        if not np.isnan(curve.ec50):
            samples = [sample.ec50 for sample in resampled(dose, effect, resamples)]
            low, high = np.nanquantile([curve.ec50, *samples], [0.025, 0.975])
        label, true_ec50 = members[[LABEL, "ec50"]].iloc[0]
        facts = {LABEL: label, **curve._asdict(), "low": low, "high": high, "true_ec50": true_ec50}
        rows.append(dict(zip(BY, key, strict=True)) | facts)
    return pd.DataFrame(rows)


def curve_bands(wells: pd.DataFrame, points: int = 60) -> pd.DataFrame:
    """The curve of each compound of one run, ``value``, and its pointwise 95 % band, ``low`` to ``high``.

    At ``points`` concentrations (µM) in even log steps. ``true`` is the Hill curve through the true ``response``.
    """
    grid = np.geomspace(wells[CONCENTRATION].min(), wells[CONCENTRATION].max(), points)
    tables = []
    for compound, members in wells.groupby(COMPOUND, sort=False):
        dose, effect = members[CONCENTRATION].to_numpy(), members["responding_fraction"].to_numpy()
        samples = np.array([hill(grid, curve) for curve in resampled(dose, effect)])
        low, high = np.quantile(samples, [0.025, 0.975], axis=0)
        value, true = (hill(grid, fit_hill(dose, values)) for values in (effect, members["response"].to_numpy()))
        facts = {COMPOUND: compound, CONCENTRATION: grid, "value": value, "low": low, "high": high, "true": true}
        tables.append(pd.DataFrame(facts))
    return pd.concat(tables, ignore_index=True)
