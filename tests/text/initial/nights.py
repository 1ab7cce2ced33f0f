"""Two nights of one pipeline with a text network: the second one's words, ids and features are partly others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from gdmix_core import storage
from gdmix_core.data.frame import Frame
from gdmix_core.effects.initialize import write_initial_scores
from gdmix_core.execution import dispatch
from gdmix_core.models.initial.layout import write_initial
from gdmix_core.models.initial.locate import InitialFiles, find_initial, fingerprint
from gdmix_core.pipeline.run import Run
from gdmix_core.text.initial.network import prepare
from gdmix_core.text.training.worker import train_and_score
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import SingleWorker
from tests.run_directory import Rows, make_run
from tests.text.text_runs import EVERYTHING, NETWORK

OLD_WORDS = ["good", "bad", "old", "new", "big", "small", "gone"]
NEW_WORDS = ["small", "fresh", "big", "bad", "news", "good", "old", "new"]
OLD_USERS = ["u1", "u2", "u3", "away"]
NEW_USERS = ["u9", "u3", "u2", "u1"]
# Numbers of the features in the lists of the two nights.
OLD_FEATURES = {"context": [0, 1], "tags": [0, 1, 2, 3, 4, 5]}
NEW_FEATURES = {"context": [2, 1, 0], "tags": [9, 3, 1, 0, 2, 4]}
TEXT: dict[str, Any] = {**NETWORK, **EVERYTHING, "epochs": 2}
PER_USER: dict[str, Any] = {"random_effect": {"entity": "person", "shards": 1}}
COORDINATES: dict[str, Any] = {"global": {"fixed_effect": TEXT}, "per_user": PER_USER}


def texts_of(n: int, random: np.random.Generator, known: Sequence[str], most: int) -> list[str]:
    return [" ".join(random.choice(known, random.integers(0, most))) for _ in range(n)]


def rows_of(
    n: int,
    seed: int,
    *,
    words: Sequence[str] = OLD_WORDS,
    users: Sequence[str] = OLD_USERS,
    features: dict[str, list[int]] = OLD_FEATURES,
    only: dict[str, list[int]] | None = None,
) -> Rows:
    """features: the lists that bags are in; only: the features that are not zero."""
    random = np.random.default_rng(seed)
    wide = {"context": random.normal(size=(n, 3)), "tags": (random.random((n, 10)) < 0.4) * random.normal(size=(n, 10))}
    for bag, kept in (only or {}).items():
        wide[bag][:, np.setdiff1d(np.arange(wide[bag].shape[1]), kept)] = 0.0
    titles = texts_of(n, random, words, 5)
    margin = 2.0 * np.char.count(titles, "good") - 2.0 * np.char.count(titles, "bad") + wide["tags"][:, 1]
    return Rows(
        (random.random(n) < 1 / (1 + np.exp(-margin))).astype(float),
        offset=0.1 * random.normal(size=n),
        ids={"title": titles, "user": texts_of(n, random, users, 4), "person": random.integers(0, 5, n)},
        bags={bag: matrix[:, features[bag]].astype(np.float32) for bag, matrix in wide.items()},
    )


def names_of(features: dict[str, list[int]]) -> dict[str, list[tuple[str, str]]]:
    return {bag: [(bag, str(number)) for number in numbers] for bag, numbers in features.items()}


def first_night(root: Path, coordinates: dict[str, Any] | None = None, **changes: Any) -> Run:
    """A finished run, whose network was trained in this process."""
    config = {"coordinates": coordinates or COORDINATES, **changes}
    run = make_run(root, config, rows_of(300, 1), rows_of(100, 2), feature_names=names_of(OLD_FEATURES))
    return walk(run)


def common_rows(n: int, seed: int, features: dict[str, list[int]] = NEW_FEATURES) -> Rows:
    """Only of what both nights know."""
    shared = {bag: sorted(set(OLD_FEATURES[bag]) & set(NEW_FEATURES[bag])) for bag in OLD_FEATURES}
    words, users = (sorted(set(a) & set(b)) for a, b in ((OLD_WORDS, NEW_WORDS), (OLD_USERS, NEW_USERS)))
    return rows_of(n, seed, words=words, users=users, features=features, only=shared)


def second_night(root: Path, initial: Any, coordinates: dict[str, Any] | None = None, **changes: Any) -> Run:
    """Before initialize; its validation rows are of what both nights know."""
    training = rows_of(300, 3, words=NEW_WORDS, users=NEW_USERS, features=NEW_FEATURES)
    config = {
        "coordinates": coordinates or COORDINATES,
        "initial_model": initial,
        **changes,
    }
    return make_run(root, config, training, common_rows(100, 4), feature_names=names_of(NEW_FEATURES))


def initialize_here(run: Run) -> dict[str, Any]:
    """What the step does, with its process's part in this one; returns the counts."""
    models = find_initial(run.config)
    files = fingerprint(models)
    run.set_fingerprints(initial=files)
    counts: dict[str, Any] = {}
    for name, model in models.items():
        if isinstance(model, InitialFiles):
            counts[name] = write_initial(run, Frame(run), name, model)
            write_initial_scores(TrainingContext.of_first_pass(run, name))
        else:
            counts[name] = prepare(run, name, model)
    run.commit(run.plan["initialize"], {"coordinates": counts, "initial_fingerprint": files})
    return counts


def walk(run: Run, upto: str = "export") -> Run:
    """Every step after partition and initialize, networks trained in this process."""
    for step in run.plan.steps[2:]:
        if step.kind == "initialize":
            continue
        if step.kind == "train_text" and not run.config.coordinates[str(step.coordinate)].locked:
            run.require(step)
            run.commit(step, train_and_score(TrainingContext(run, step), SingleWorker()))
        else:
            dispatch.execute(run, step)
        if step.id == upto:
            break
    return run


def scores_of(run: Run, name: str, split: str, number: int = 1) -> NDArray[np.float32]:
    return storage.read_array(run.scores(number, name, split))


def served(folder: str, rows: Rows, features: dict[str, list[int]]) -> NDArray[np.float32]:
    """What an exported network scores, called as anybody would; rows: with bags in its own lists."""
    model = tf.saved_model.load(folder)
    tags = np.asarray(rows.bags["tags"], np.float32)
    found = model.signatures["serving_default"](
        title=tf.constant(rows.ids["title"]),
        user=tf.constant(rows.ids["user"]),
        context=tf.constant(rows.bags["context"]),
        tags_indices=tf.constant(np.tile(np.arange(len(features["tags"])), (len(tags), 1)), tf.int64),
        tags_values=tf.constant(tags),
    )
    return found["score"].numpy()
