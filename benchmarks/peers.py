"""The peers, each as its documentation says, with a tolerance tight enough for its own best objective.

Packages are imported where they are used: a peer that is not installed is left out of the table with a line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
import numpy as np
from comparisons import Fit, Problem, Vector, csr
from threadpoolctl import threadpool_limits

_PACKAGES = {
    "scikit_learn": "scikit-learn", "scipy": "scipy", "glum": "glum", "statsmodels": "statsmodels",
    "gpboost": "gpboost", "spark": "pyspark",
}  # fmt: skip


def versions(function: str) -> dict[str, str]:
    """Of the package that a peer's name begins with; lme4 by Rscript."""
    if function.startswith("lme4"):
        expression = 'cat(R.version.string, "; lme4", as.character(packageVersion("lme4")))'
        found = subprocess.run([rscript(), "-e", expression], check=True, capture_output=True, text=True)
        return {"lme4": found.stdout}
    return {package: version(package) for begin, package in _PACKAGES.items() if function.startswith(begin)}


def _intercept_first(model: Any) -> Vector:
    return np.append(np.ravel(model.intercept_), np.ravel(model.coef_))


# ------------------------------------------------------------------------------------------------------ scikit-learn
def _scikit_learn_logistic(problem: Problem, solver: str) -> Fit:
    from sklearn.linear_model import LogisticRegression

    X = problem["X"].astype(np.float64) if "X" in problem else csr(problem)
    l2 = float(problem["l2"])
    model = LogisticRegression(C=1.0 / l2 if l2 else np.inf, solver=solver, tol=1e-6, max_iter=1000)
    return Fit(lambda: model.fit(X, problem["label"]), _intercept_first)


def scikit_learn_lbfgs(problem: Problem) -> Fit:
    return _scikit_learn_logistic(problem, "lbfgs")


def scikit_learn_newton_cg(problem: Problem) -> Fit:
    return _scikit_learn_logistic(problem, "newton-cg")


def scikit_learn_newton_cholesky(problem: Problem) -> Fit:
    return _scikit_learn_logistic(problem, "newton-cholesky")


def scikit_learn_poisson(problem: Problem) -> Fit:
    from sklearn.linear_model import PoissonRegressor

    X = problem["X"].astype(np.float64)
    model = PoissonRegressor(alpha=0.0, solver="newton-cholesky", tol=1e-6, max_iter=1000)
    return Fit(lambda: model.fit(X, problem["label"]), _intercept_first)


def scikit_learn_linear(problem: Problem) -> Fit:
    from sklearn.linear_model import LinearRegression

    X = problem["X"].astype(np.float64)
    return Fit(lambda: LinearRegression().fit(X, problem["label"]), _intercept_first)


def scikit_learn_per_entity(problem: Problem) -> Fit:
    from joblib import Parallel, delayed

    batches = _batches(problem, dense=True)
    work = lambda: Parallel(n_jobs=machine.cores())(delayed(_scikit_learn_loop)(batch) for batch in batches)  # noqa: E731
    return Fit(work, np.concatenate)


def _scikit_learn_loop(batch: list[tuple[Any, Vector]]) -> Vector:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-6, max_iter=1000)
    with threadpool_limits(1):  # threads only get in each other's way on matrices this small
        return np.concatenate([model.fit(X, y).coef_[0] for X, y in batch])


# ------------------------------------------------------------------------------------------------------------- SciPy
def scipy_per_entity(problem: Problem) -> Fit:
    """What GDMix does for each model: fmin_l_bfgs_b with its settings, on a sparse matrix."""
    from joblib import Parallel, delayed

    batches = _batches(problem, dense=False)
    work = lambda: Parallel(n_jobs=machine.cores())(delayed(_scipy_loop)(batch) for batch in batches)  # noqa: E731
    return Fit(work, np.concatenate)


def _scipy_loop(batch: list[tuple[Any, Vector]]) -> Vector:
    from scipy.optimize import fmin_l_bfgs_b

    def objective(w: Vector, X: Any, y: Vector) -> tuple[float, Vector]:
        z = X @ w
        loss = np.sum(np.logaddexp(0.0, z) - y * z) + 0.5 * (w @ w)
        return loss, X.T @ (1.0 / (1.0 + np.exp(-z)) - y) + w

    start, factr = np.zeros(batch[0][0].shape[1]), 1e-12 / np.finfo(float).eps
    with threadpool_limits(1):
        return np.concatenate(
            [fmin_l_bfgs_b(objective, start, args=data, m=10, factr=factr, maxiter=100)[0] for data in batch]
        )


def _batches(problem: Problem, *, dense: bool) -> list[list[tuple[Any, Vector]]]:
    """(features, labels) of every entity, some dozens of entities at a time."""
    X = csr(problem)
    spans = zip(problem["begin"].tolist(), problem["end"].tolist(), strict=True)
    data = [(X[b:e].toarray() if dense else X[b:e], problem["label"][b:e]) for b, e in spans]
    return [data[first : first + 64] for first in range(0, len(data), 64)]


# -------------------------------------------------------------------------------------------------- glum, statsmodels
def _glum(problem: Problem, family: str) -> Fit:
    from glum import GeneralizedLinearRegressor

    X = problem["X"].astype(np.float64)
    model = GeneralizedLinearRegressor(family=family, alpha=0.0, gradient_tol=1e-6, max_iter=1000)
    return Fit(lambda: model.fit(X, problem["label"]), _intercept_first)


def glum_logistic(problem: Problem) -> Fit:
    return _glum(problem, "binomial")


def glum_poisson(problem: Problem) -> Fit:
    return _glum(problem, "poisson")


def glum_linear(problem: Problem) -> Fit:
    return _glum(problem, "normal")


def _statsmodels(problem: Problem, family: str) -> Fit:
    import statsmodels.api as sm

    X = sm.add_constant(problem["X"].astype(np.float64), has_constant="add")
    model = sm.GLM(problem["label"], X, family=getattr(sm.families, family)())
    return Fit(lambda: model.fit(), lambda found: found.params)


def statsmodels_logistic(problem: Problem) -> Fit:
    return _statsmodels(problem, "Binomial")


def statsmodels_poisson(problem: Problem) -> Fit:
    return _statsmodels(problem, "Poisson")


def statsmodels_linear(problem: Problem) -> Fit:
    return _statsmodels(problem, "Gaussian")


# ------------------------------------------------------------------------------------------------------------- Spark
def spark_mllib(problem: Problem) -> Fit:
    """On rows that Spark has read and cached before the clock starts, in one partition for each core."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.sql import SparkSession
    from sklearn.datasets import dump_svmlight_file

    cores, rows = machine.cores(), len(problem["label"])
    session = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.driver.memory", "4g").config("spark.ui.enabled", "false").getOrCreate()
    )  # fmt: skip
    session.sparkContext.setLogLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        dump_svmlight_file(csr(problem), problem["label"], f"{folder}/rows.svm", zero_based=False)
        read = session.read.format("libsvm").option("numFeatures", int(problem["features"])).load(folder)
        data = read.repartition(cores).cache()
        assert data.count() == rows
    regression = LogisticRegression(regParam=float(problem["l2"]) / rows, standardization=False, tol=1e-8, maxIter=1000)
    return Fit(lambda: regression.fit(data), lambda m: np.append(m.intercept, m.coefficients.toArray()))


# ------------------------------------------------------------------------------------------------------ mixed models
def gpboost_crossed(problem: Problem) -> Fit:
    import gpboost

    groups = np.column_stack([problem["user"], problem["item"]])
    ones = np.ones((len(groups), 1))

    def work() -> Any:
        model = gpboost.GPModel(group_data=groups, likelihood="bernoulli_logit", num_parallel_threads=machine.cores())
        model.fit(y=problem["label"], X=ones)
        return model

    def coefficients(model: Any) -> Vector:
        of_rows = model.predict_training_data_random_effects().to_numpy()
        variances = np.ravel(model.get_cov_pars(format_pandas=False))[:2]
        modes = [_of_entities(problem[name], of_rows[:, k]) for k, name in enumerate(("user", "item"))]
        return np.concatenate([np.ravel(model.get_coef(format_pandas=False))[:1], variances, *modes])

    return Fit(work, coefficients)


def _of_entities(entity: Any, of_rows: Vector) -> Vector:
    values = np.empty(int(entity.max()) + 1)
    values[entity] = of_rows
    return values


_GLMER = """
library(lme4)
folder <- commandArgs(trailingOnly = TRUE)[1]
data <- read.csv(file.path(folder, "rows.csv"))
seconds <- system.time(model <- glmer(label ~ 1 + (1 | user) + (1 | item), data, binomial))["elapsed"]
variances <- as.data.frame(VarCorr(model))
effects <- ranef(model)
ordered <- function(name) effects[[name]][order(as.integer(rownames(effects[[name]]))), 1]
of <- function(name) variances$vcov[variances$grp == name]
writeLines(format(c(seconds, fixef(model), of("user"), of("item"), ordered("user"), ordered("item")), digits = 17),
           file.path(folder, "result"))
"""


def lme4_crossed(problem: Problem) -> Fit:
    """lme4's glmer with its defaults, timed by R: the start of R and reading the rows are not counted."""
    program = rscript()

    def work() -> Vector:
        with tempfile.TemporaryDirectory() as folder:
            columns = np.column_stack([problem[name] for name in ("label", "user", "item")]).astype(np.int64)
            np.savetxt(f"{folder}/rows.csv", columns, "%d", ",", header="label,user,item", comments="")
            Path(folder, "fit.R").write_text(_GLMER)
            subprocess.run([program, f"{folder}/fit.R", folder], check=True, capture_output=True)
            return np.array([float(line) for line in re.split(r"\s+", Path(folder, "result").read_text().strip())])

    return Fit(work, lambda result: result[1:], seconds=lambda result: float(result[0]))


def rscript() -> str:
    found = shutil.which("Rscript")
    if found is None:
        raise ModuleNotFoundError("Rscript is not on the PATH")
    return found
