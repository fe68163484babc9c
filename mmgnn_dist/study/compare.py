"""Comparisons of models by target: over test molecules, over trainings, over both, over several targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgnn_dist.study.collect import Model, Pair, Results, crossed
from mmgnn_dist.study.effects import Effect, OverMolecules, gain_effect, score_effect
from mmgnn_dist.study.statistics.auroc_bootstrap import (
    Differences,
    RunChances,
    auroc_differences,
    weighted_auroc,
)
from mmgnn_dist.study.statistics.bootstrap import REPEATS, Gains, identity_strata, paired_gains
from mmgnn_dist.study.statistics.corrected_ttest import (
    Retrained,
    Scatter,
    corrected_t,
    scatter_of,
    t_interval,
)
from mmgnn_dist.study.statistics.judgement import judge

NO_SCATTER = Scatter(*(np.array(np.nan),) * 2, 0, *(np.array(np.nan),) * 2)


@dataclass(frozen=True)
class Compared:
    """Gain of one model over another by target; arrays are [T].

    Attributes:
        reference, other: the models.
        test: gains with intervals over test molecules, and the replicates [R, T].
        runs: gains with intervals over trainings.
        effects: the judged gain of each target.
        logs: log ratio of the errors of each fold and seed, by target.
    """

    reference: Model
    other: Model
    test: Gains
    runs: Retrained
    effects: list[Effect]
    logs: list[dict[tuple[int, int], float]]


def compare_models(
    results: Results, wanted: list[tuple[Model, Model]], repeats: int = REPEATS
) -> list[Compared]:
    """Compare pairs (reference, other) on all targets; all pairs share the same resamples."""
    if not wanted or not results.targets:
        return []
    pairs = [results.pair(*models) for models in wanted]
    x, y = (np.concatenate([getattr(p, side) for p in pairs], axis=1) for side in ("reference", "other"))
    all_gains = paired_gains(x, y, results.folds, repeats, identities=results.identities)
    out = []
    for index, (models, pair) in enumerate(zip(wanted, pairs, strict=True)):
        columns = slice(index * len(results.targets), (index + 1) * len(results.targets))
        test = Gains(*(value[..., columns] for value in vars(all_gains).values()))
        logs = [
            dict(zip(shared, np.log(second / first).ravel().tolist(), strict=True))
            for shared, (first, second) in zip(pair.shared, pair.runs, strict=True)
        ]
        effects = [_effect(results, pair, test, t) for t in range(len(results.targets))]
        out.append(Compared(*models, test, _retrained(pair), effects, logs))
    return out


def _effect(results: Results, pair: Pair, test: Gains, t: int) -> Effect:
    """Judge the gain of one target."""
    first, second = pair.runs[t]
    runs = scatter_of(np.log(second / first), pair.share) if first.size else NO_SCATTER
    judged = judge(runs, first.size, test.error[t], test.p[t], results.apart)
    return gain_effect(_tested(test, t), runs, judged, first.shape)


def _tested(test: Gains | Differences, place: int) -> OverMolecules:
    """One comparison over test molecules."""
    values = (float(v[place]) for v in (test.estimate, test.low, test.high, test.p, test.error))
    return OverMolecules(*values)


def _retrained(pair: Pair) -> Retrained:
    """Corrected t-test of each target."""
    tests = []
    for first, second in pair.runs:
        if first.size:
            tests.append(corrected_t(first, second, pair.share))
        else:
            tests.append(Retrained(*(np.array(np.nan) for _ in range(4))))
    return Retrained(
        *(np.array([vars(test)[key] for test in tests]) for key in ("estimate", "low", "high", "p"))
    )


def mean_effect(results: Results, compared: Sequence[Compared], places: Sequence[int]) -> Effect | None:
    """Judge the mean gain over some targets and all compared models; None without a common run.

    The effect of a replicate is the mean over targets and models of its log ratios of errors.

    Args:
        results: results of the study.
        compared: comparisons of one call of `compare_models`.
        places: places of the targets.
    """
    logs = [one.logs[place] for one in compared for place in places if one.logs[place]]
    runs = crossed(set.intersection(*(set(by_run) for by_run in logs))) if logs else []
    if not runs:
        return None
    shape = len({fold for fold, _ in runs}), -1
    effects = np.array([np.mean([by_run[run] for by_run in logs]) for run in runs]).reshape(shape)
    begun = next(one for one in compared if any(one.logs))
    scatter = scatter_of(effects, results.share(begun.other))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = [
            np.log1p(-one.test.replicates[:, place] / 100.0)
            for one in compared
            for place in places
            if one.logs[place]
        ]
    error = np.array(np.std(np.mean(drawn, axis=0), ddof=1))
    half, p = t_interval(scatter.estimate, error, np.array(_units(results) - 1))
    judged = judge(scatter, effects.size, error, p, results.apart)
    mean = scatter.estimate
    bounds = [float(100.0 * -np.expm1(value)) for value in (mean, mean + half, mean - half)]
    test = OverMolecules(bounds[0], bounds[1], bounds[2], float(p), float(error))
    return gain_effect(test, scatter, judged, effects.shape)


def compare_classes(results: Results, target: str, wanted: list[tuple[Model, Model]]) -> list[Effect | None]:
    """Compare pairs (reference, other) by the AUROC of a target; None without a fold and seed of both."""
    runs: list[tuple[list[RunChances], list[RunChances]]] = []
    shared = []
    for models in wanted:
        first, second = (results.chances.get((model, target), {}) for model in models)
        shared.append(crossed(set(first) & set(second)))
        runs.append(([first[run] for run in shared[-1]], [second[run] for run in shared[-1]]))
    used = [index for index, common in enumerate(shared) if common]
    effects: list[Effect | None] = [None] * len(wanted)
    if not used:
        return effects
    true = results.true_classes[target]
    test = auroc_differences(true, [runs[i] for i in used], results.folds, results.identities)
    for place, index in enumerate(used):
        reference, other = (
            np.array([auroc_of(true[run.rows], run.chances) for run in side]) for side in runs[index]
        )
        by_run = (other - reference).reshape(len({fold for fold, _ in shared[index]}), -1)
        scatter = scatter_of(by_run, results.share(wanted[index][1]))
        judged = judge(scatter, by_run.size, test.error[place], test.p[place], results.apart)
        effects[index] = score_effect(_tested(test, place), scatter, judged, by_run.shape)
    return effects


def auroc_of(true: np.ndarray, chances: np.ndarray) -> float:
    """AUROC of one run: see `weighted_auroc`."""
    return float(weighted_auroc(true, chances, np.ones((1, len(true))))[0])


def _units(results: Results) -> int:
    return int(identity_strata(results.folds, results.identities).unit.max()) + 1


def relative_errors(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of both models: the mean over targets of error / MAE of the reference, each [n].

    The gain in this score is the mean gain over the targets. The error is NaN if a molecule has no label.
    """
    with np.errstate(invalid="ignore"):
        scale = _mean(pair.reference, 0)
        return _mean(pair.reference / scale, 1), _mean(pair.other / scale, 1)


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the finite values; NaN if there is none."""
    finite = np.isfinite(values)
    total, count = np.where(finite, values, 0.0).sum(axis), finite.sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def mean_gain(results: Results, reference: Model, other: Model) -> tuple[float, float, float]:
    """Mean gain over the targets and the bounds of its interval over test molecules, in percent."""
    x, y = relative_errors(results.pair(reference, other))
    gains = paired_gains(x[:, None], y[:, None], results.folds, repeats=2000, identities=results.identities)
    return float(gains.estimate[0]), float(gains.low[0]), float(gains.high[0])
