"""A trainer for `model: python`: gradient boosted trees of scikit-learn, which start at the offsets."""

from __future__ import annotations

import joblib
import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingClassifier

from gdmix_core import TrainerInput


def train(given: TrainerInput):
    """settings: those of GradientBoostingClassifier."""
    model = GradientBoostingClassifier(
        init=Offsets(given.offsets["training"]), random_state=given.seed, **given.settings
    )
    model.fit(given.bag("training", "global"), given.labels("training"), given.weights("training"))
    trees = [tree for (tree,) in model.estimators_], model.learning_rate
    joblib.dump(trees, given.folder / "trees.joblib")
    return {split: score(trees, given.bag(split, "global")) for split in given.splits}


def score(trees, features):
    """What the trees add to the offset they started at."""
    stages, rate = trees
    return rate * np.sum([stage.predict(features) for stage in stages], axis=0)


class Offsets(BaseEstimator):
    """Boosting's first stage: the probability that the training rows' offsets alone give."""

    def __init__(self, margins):
        self.margins = margins

    def fit(self, features, labels, sample_weight=None):
        return self

    def predict_proba(self, features):
        ones = expit(self.margins)
        return np.column_stack([1 - ones, ones])
