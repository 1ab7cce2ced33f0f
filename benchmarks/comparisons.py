"""The comparisons of `make bench`: one problem each, its objective in NumPy, and who minimises it.

A problem is made once, as arrays of a folder, and read by every fit's own process. Its objective is computed here, in
float64 and by nobody who is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fixed_effect_problem import sparse
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Problem = dict[str, NDArray]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fit on a problem that lies in memory as its solver likes it best.

    Parameters
    ----------
    work
        What is timed.
    coefficients
        Makes of what `work` returned what the comparison's objective takes.
    seconds
        What `work` took, where it has measured that itself: a fit in a process of another language.
    note
        What else is worth saying, after `work`.
    """

    work: Callable[[], Any]
    coefficients: Callable[[Any], Any] = np.asarray
    seconds: Callable[[Any], float] | None = None
    note: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Parameters
    ----------
    objective
        What everybody minimises, as text.
    sizes
        tiny, which everybody fits first, small, medium and large: the arguments of `make`.
    make
        Makes the arrays of a problem of that size.
    value
        The objective of the coefficients that a fit returned.
    ours, peers
        Names of functions of ours.py and peers.py that prepare a `Fit`.
    given_peers_variances
        Whether ours takes the variances of random effects that a peer has estimated, which are entries of its
        coefficients; it is then fitted once for every peer.
    """

    objective: str
    sizes: dict[str, dict[str, int]]
    make: Callable[..., Problem]
    value: Callable[[Problem, Vector], float]
    ours: str
    peers: tuple[str, ...]
    given_peers_variances: bool = False


SIZES = ("tiny", "small", "medium", "large")


def _sizes(**of_size: tuple[int, ...]) -> list[dict[str, int]]:
    return [dict(zip(of_size, values, strict=True)) for values in zip(*of_size.values(), strict=True)]


def _named(sizes: list[dict[str, int]]) -> dict[str, dict[str, int]]:
    return dict(zip(SIZES, sizes, strict=True))


# ---------------------------------------------------------------------------------------------------- fixed effects
def sparse_rows(rows: int, features: int, nonzeros: int) -> Problem:
    bag, label = sparse(rows, features, nonzeros)
    return {"offsets": bag.offsets, "indices": bag.indices, "values": bag.values, "label": label, "l2": np.array(1.0),
            "features": np.array(features)}  # fmt: skip


def csr(problem: Problem) -> csr_matrix:
    shape = (len(problem["label"]), int(problem["features"]))
    return csr_matrix((problem["values"].astype(np.float64), problem["indices"], problem["offsets"]), shape=shape)


def _dense_rows(rows: int, features: int) -> tuple[NDArray[np.float32], Vector, np.random.Generator]:
    random = np.random.default_rng(3)
    common = random.standard_normal((rows, 1))
    X = (0.9 * random.standard_normal((rows, features)) + 0.4 * common).astype(np.float32)
    return X, X @ (random.standard_normal(features) / features**0.5) - 0.5, random


def dense_logistic(rows: int, features: int) -> Problem:
    X, margin, random = _dense_rows(rows, features)
    return {"X": X, "label": (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64), "l2": np.array(0.0)}


def dense_poisson(rows: int, features: int) -> Problem:
    X, margin, random = _dense_rows(rows, features)
    return {"X": X, "label": random.poisson(np.exp(np.minimum(margin, 5.0))).astype(np.float64), "l2": np.array(0.0)}


def dense_linear(rows: int, features: int) -> Problem:
    X, margin, random = _dense_rows(rows, features)
    return {"X": X, "label": margin + random.standard_normal(rows), "l2": np.array(0.0)}


def _logistic(z: Vector, y: Vector) -> Vector:
    return np.logaddexp(0.0, z) - y * z


def _poisson(z: Vector, y: Vector) -> Vector:
    return np.exp(z) - y * z


def _square(z: Vector, y: Vector) -> Vector:
    return 0.5 * (z - y) ** 2


def _of_all_rows(loss: Callable[[Vector, Vector], Vector]) -> Callable[[Problem, Vector], float]:
    """Coefficients [features + 1], the intercept first."""

    def value(problem: Problem, w: Vector) -> float:
        X = problem["X"].astype(np.float64) if "X" in problem else csr(problem)
        return float(np.sum(loss(X @ w[1:] + w[0], problem["label"])) + 0.5 * float(problem["l2"]) * (w[1:] @ w[1:]))

    return value


# --------------------------------------------------------------------------------------------------- random effects
def entities(entities: int, rows: int) -> Problem:
    """Entities of random sizes with 20 features, 8 of them in a row, and labels of both kinds in each.

    scikit-learn takes no offset, no penalty on an intercept and no entity with labels of one kind. So there are no
    offsets, the intercept is feature 0, penalised as the others, and the first two labels of an entity are 0 and 1.
    """
    random, features, nonzeros = np.random.default_rng(0), 20, 8
    sizes = random.multinomial(rows - 2 * entities, np.ones(entities) / entities) + 2
    ends = np.cumsum(sizes)
    drawn = np.sort(np.argsort(random.random((rows, features)), axis=1)[:, :nonzeros], axis=1) + 1
    indices = np.hstack([np.zeros((rows, 1), np.int64), drawn]).astype(np.int32)
    values = np.hstack([np.ones((rows, 1)), random.standard_normal((rows, nonzeros))]).astype(np.float32)
    entity = np.repeat(np.arange(entities), sizes)
    truth = 0.5 * random.standard_normal((entities, features + 1))
    margin = np.sum(truth[entity[:, None], indices] * values, axis=1)
    label = (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    label[ends - sizes], label[ends - sizes + 1] = 0.0, 1.0
    return {"offsets": np.arange(rows + 1) * (nonzeros + 1), "indices": indices.ravel(), "values": values.ravel(),
            "label": label, "begin": ends - sizes, "end": ends, "features": np.array(features + 1),
            "l2": np.array(1.0)}  # fmt: skip


def _of_all_entities(problem: Problem, w: Vector) -> float:
    """Coefficients [entities × features]."""
    count = len(problem["begin"])
    W = w.reshape(count, -1)
    entity = np.repeat(np.arange(count), problem["end"] - problem["begin"])
    nonzeros = int(problem["offsets"][1])
    terms = W[entity[:, None], problem["indices"].reshape(-1, nonzeros)] * problem["values"].reshape(-1, nonzeros)
    return float(_logistic(terms.sum(axis=1), problem["label"]).sum() + 0.5 * float(problem["l2"]) * (w @ w))


# ------------------------------------------------------------------------------------- crossed random intercepts
def crossed(rows: int, users: int, items: int) -> Problem:
    """Labels of users on items: logistic, with an intercept for each user and each item."""
    random = np.random.default_rng(5)
    user = np.concatenate([np.arange(users), random.integers(0, users, rows - users)])
    item = np.concatenate([random.integers(0, items, rows - items), np.arange(items)])
    margin = 0.3 + random.standard_normal(users)[user] + 0.7 * random.standard_normal(items)[item]
    label = (random.random(rows) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    return {"user": user, "item": item, "label": label}


def _joint(problem: Problem, w: Vector) -> float:
    """Coefficients: the intercept, the variances of users and items, then their intercepts."""
    users = int(problem["user"].max()) + 1
    intercept, of_users, of_items = w[0], w[3 : 3 + users], w[3 + users :]
    z = intercept + of_users[problem["user"]] + of_items[problem["item"]]
    penalty = 0.5 * (of_users @ of_users) / w[1] + 0.5 * (of_items @ of_items) / w[2]
    return float(_logistic(z, problem["label"]).sum() + penalty)


_DENSE = _named(_sizes(rows=(500, 20_000, 200_000, 1_000_000), features=(5, 20, 50, 50)))

COMPARISONS = {
    "fixed effect, sparse, logistic": Comparison(
        "Σ log(1 + eᶻ) − y z + ½ |w|²; the intercept free",
        _named(
            _sizes(
                rows=(500, 10_000, 200_000, 1_000_000), features=(100, 5_000, 100_000, 100_000), nonzeros=(30,) * 4
            )
        ),
        sparse_rows,
        _of_all_rows(_logistic),
        "logistic",
        ("scikit_learn_lbfgs", "scikit_learn_newton_cg", "spark_mllib"),
    ),
    "fixed effect, dense, logistic": Comparison(
        "Σ log(1 + eᶻ) − y z",
        _DENSE,
        dense_logistic,
        _of_all_rows(_logistic),
        "logistic",
        ("scikit_learn_newton_cholesky", "glum_logistic", "statsmodels_logistic"),
    ),
    "fixed effect, dense, Poisson": Comparison(
        "Σ eᶻ − y z",
        _DENSE,
        dense_poisson,
        _of_all_rows(_poisson),
        "poisson",
        ("scikit_learn_poisson", "glum_poisson", "statsmodels_poisson"),
    ),
    "fixed effect, dense, linear": Comparison(
        "Σ ½ (z − y)²",
        _DENSE,
        dense_linear,
        _of_all_rows(_square),
        "linear",
        ("scikit_learn_linear", "glum_linear", "statsmodels_linear"),
    ),
    "random effect, logistic": Comparison(
        "for each entity Σ log(1 + eᶻ) − y z + ½ |w|²",
        _named(_sizes(entities=(20, 1_000, 20_000, 20_000), rows=(400, 20_000, 400_000, 400_000))),
        entities,
        _of_all_entities,
        "per_entity",
        ("scikit_learn_per_entity", "scipy_per_entity"),
    ),
    "crossed random intercepts, logistic": Comparison(
        "Σ log(1 + eᶻ) − y z + ½ Σ u²/σ² + ½ Σ v²/τ²; σ², τ² are the peer's",
        _named(
            _sizes(
                rows=(500, 5_000, 100_000, 1_000_000), users=(50, 500, 5_000, 50_000), items=(20, 200, 1_000, 10_000)
            )
        ),
        crossed,
        _joint,
        "crossed",
        ("gpboost_crossed", "lme4_crossed"),
        given_peers_variances=True,
    ),
}  # fmt: skip
