"""A baseline of classes without geometry: logistic regression on composition, fitted on the training part."""

from __future__ import annotations

import numpy as np

PENALTY = 1e-3  # L2 penalty on the weights of standardised counts, so that a fit of separable classes ends


def logistic_probabilities(
    features: np.ndarray, classes: np.ndarray, wanted: np.ndarray, count: int
) -> np.ndarray:
    """Fit a multinomial logistic regression and return its probabilities.

    Args:
        features: features of the training part [m, F].
        classes: number of the class of each of its molecules [m].
        wanted: features of the molecules to predict [n, F].
        count: number of classes K.

    Returns:
        Probability of each class [n, K].
    """
    from scipy.optimize import minimize

    mean, spread = features.mean(axis=0), features.std(axis=0)
    used = spread > 0
    x = (features[:, used] - mean[used]) / spread[used]
    x = np.hstack([x, np.ones((len(x), 1))])
    hot = np.eye(count)[classes]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, count)
        chances = _softmax(x @ weights)
        slopes = weights.copy()
        slopes[-1] = 0.0  # no penalty on the intercept
        value = -np.log(np.maximum((chances * hot).sum(axis=1), 1e-300)).mean()
        gradient = x.T @ (chances - hot) / len(x) + PENALTY * slopes
        return float(value + 0.5 * PENALTY * (slopes**2).sum()), gradient.ravel()

    fitted = minimize(loss, np.zeros(x.shape[1] * count), jac=True, method="L-BFGS-B").x.reshape(-1, count)
    new = np.hstack([(wanted[:, used] - mean[used]) / spread[used], np.ones((len(wanted), 1))])
    return _softmax(new @ fitted)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
