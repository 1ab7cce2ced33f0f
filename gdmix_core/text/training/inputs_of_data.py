"""The vocabularies and sizes a network is built by, found in the training data."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from gdmix_core import storage
from gdmix_core.config.pipeline import Config
from gdmix_core.data.frame import Frame
from gdmix_core.models.network_files import INPUTS
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.network_rows import ROWS_AT_A_TIME
from gdmix_core.text.starting_point import start_inputs
from gdmix_core.text.tokens.distinct_texts import encode
from gdmix_core.text.tokens.vocabulary import TokenCounter, given_tokens
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers.all_reduce import WorkerLostError


def network_inputs(context: TrainingContext, rank: int, barrier: Any) -> NetworkInputs:
    """Return the same for every worker: the first one finds them and leaves them beside the checkpoint for the rest.

    barrier: returns when every worker has called it
    """
    path = storage.join(context.checkpoint(INPUTS).directory, INPUTS)
    key = context.key
    if rank == 0 and not (storage.exists(path) and storage.read_json(path).get("key") == key):
        found = start_inputs(context) or inputs_of_data(context.config, context.frame, context.name)
        storage.write_json(path, {"key": key, "inputs": asdict(found)})
    barrier()
    if not storage.exists(path):
        raise WorkerLostError(f"{path} is not there; the first worker has gone")
    return NetworkInputs.from_json(json.dumps(storage.read_json(path)["inputs"]))


def inputs_of_data(config: Config, frame: Frame, coordinate: str) -> NetworkInputs:
    settings = config.coordinates[coordinate].text
    given = given_tokens(settings)
    words = TokenCounter(settings.vocabulary)
    ids = {field: TokenCounter(settings.vocabulary, ids=True) for field in settings.id_fields}
    counters = {field: words for field in settings.text_fields if given is None} | ids
    for _, table in frame.stream("training", list(counters), ROWS_AT_A_TIME) if counters else ():
        for field, counter in counters.items():
            column = encode(table[field]).combine_chunks()
            counts = np.bincount(column.indices.to_numpy(zero_copy_only=False), minlength=len(column.dictionary))
            counter.add(column.dictionary, counts)
    keys = frame.bags_of(coordinate)
    return NetworkInputs(
        tokens=words.tokens() if given is None else given,
        ids={field: counter.tokens() for field, counter in ids.items()},
        bags={bag: frame.feature_count(keys[bag]) for bag in settings.bags},
        outputs=outputs_of(config, frame),
    )


def outputs_of(config: Config, frame: Frame) -> int:
    """Return the number of scores of a row."""
    if config.task == "multiclass_classification":
        assert config.classes is not None
        return config.classes
    key = frame.manifest.get("label_bag")
    return 1 if key is None else frame.feature_count(key)
