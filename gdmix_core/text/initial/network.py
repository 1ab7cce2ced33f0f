"""Another run's network, remapped to this run's vocabularies; or, if its coordinate is locked, as it is."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa

from gdmix_core import storage
from gdmix_core.config.text_architecture import needs_initial_scores
from gdmix_core.data.feature_map import feature_map, with_features
from gdmix_core.data.frame import Frame, from_table
from gdmix_core.errors import DataError
from gdmix_core.models.initial.network import InitialNetwork
from gdmix_core.models.network_files import CLASSES, INPUTS, SAVED_MODEL, WEIGHTS, features_file
from gdmix_core.pipeline.run import SPLITS, Run
from gdmix_core.text.network.named_axes import Names, Vocabularies, named_axes, remapped
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.network_inputs import NetworkInputs
from gdmix_core.text.network_rows import ROWS_AT_A_TIME
from gdmix_core.text.serving.scorer import open_network
from gdmix_core.text.training.inputs_of_data import inputs_of_data
from gdmix_core.text.weights import read_weights

log = logging.getLogger(__name__)

_NAMES_SHOWN = 5
# The two columns of a frame's bag.
_PARTS = ("indices", "values")


def prepare(run: Run, name: str, initial: InitialNetwork) -> dict[str, Any]:
    """Write <run>/initial/NAME: the network, and its scores where they are wanted; return counts of what it kept."""
    take = _copy if run.config.coordinates[name].locked else _remap
    counts = take(run, name, initial)
    if needs_initial_scores(run.config, name) and initial.settings.loss == "pointwise":
        write_initial_scores(run, name, initial)
    return {"source": initial.where, "models": 1, **counts}


def write_initial_scores(run: Run, name: str, initial: InitialNetwork) -> None:
    """Score every row with the initial SavedModel, which knows its own words, also those dropped here."""
    frame = Frame(run)
    settings = run.config.coordinates[name].text
    keys = frame.bags_of(name)
    maps = {bag: feature_map(name, initial.features(bag), frame.feature_list(key)) for bag, key in keys.items()}
    network = open_network(initial.saved_model, settings)
    columns = list(dict.fromkeys([*settings.fields, *(f"{k}_{p}" for k in keys.values() for p in _PARTS)]))
    for split in SPLITS:
        if not frame.rows(split):
            continue
        parts = []
        for _, table in frame.stream(split, columns, ROWS_AT_A_TIME):
            texts = {field: table[field].combine_chunks().cast(pa.string()) for field in settings.fields}
            read = {bag: with_features(from_table(table, key), maps[bag]) for bag, key in keys.items()}
            parts.append(np.asarray(network.score(texts, read, table.num_rows), np.float32))
        storage.write_array(run.scores(0, name, split), np.concatenate(parts))


def _copy(run: Run, name: str, initial: InitialNetwork) -> dict[str, Any]:
    storage.copy_directory(initial.saved_model, run.initial_network(name, SAVED_MODEL))
    bags_of_network = [features_file(bag) for bag in initial.settings.bags]
    for file in (WEIGHTS, INPUTS, CLASSES, *bags_of_network):
        if storage.exists(initial.path(file)):
            storage.copy_file(initial.path(file), run.initial_network(name, file))
    log.info("%s: locked, the network of %s as it is", name, initial.where)
    return {"locked": True}


def _remap(run: Run, name: str, initial: InitialNetwork) -> dict[str, Any]:
    """Write weights and inputs from which training starts as a later pass does from those of the pass before."""
    frame = Frame(run)
    settings = run.config.coordinates[name].text
    inputs = inputs_of_data(run.config, frame, name)
    label = frame.manifest.get("label_bag")
    here = Vocabularies(
        inputs,
        {bag: frame.feature_list(key).names for bag, key in frame.bags_of(name).items()},
        frame.feature_list(label).names if label else None,
    )
    classes = initial.classes if label else None
    there = Vocabularies(
        NetworkInputs.read(initial.path(INPUTS)),
        {bag: initial.features(bag).names for bag in settings.bags},
        None if classes is None else classes.names,
    )
    network = TextNetwork(settings, inputs)
    source = initial.path(WEIGHTS)
    old, new = read_weights(source), network.weights.arrays()
    if "encoder/tokens" not in new:
        _check_same_tokens(there.inputs, inputs, initial)
    axes = [
        named_axes(settings, vocabularies, {weight: values.shape for weight, values in arrays.items()})
        for vocabularies, arrays in ((there, old), (here, new))
    ]
    network.weights.assign(remapped(old, axes[0], new, axes[1], source), source)
    network.weights.save(run.initial_network(name, WEIGHTS))
    inputs.write(run.initial_network(name, INPUTS))
    counts = {"weights": int(sum(values.size for values in new.values()))}
    return {**counts, "vocabularies": _changes(name, there.listed, here.listed)}


def _check_same_tokens(there: NetworkInputs, here: NetworkInputs, initial: InitialNetwork) -> None:
    """Refuse another vocabulary for a Keras encoder: only its maker knows where its table of tokens is."""
    if there.tokens != here.tokens:
        raise DataError(
            f"{initial.where}: its Keras encoder was given another vocabulary than here, and its weights cannot be "
            "sorted by it; give it the vocabulary of the earlier run, or start anew with fixed_effect.warm_start: false"
        )


def _changes(name: str, there: dict[str, Names], here: dict[str, Names]) -> dict[str, dict[str, Any]]:
    """Count, in every vocabulary, the entries kept, new and dropped, and list the first of these; log that too."""
    found: dict[str, dict[str, Any]] = {}
    for vocabulary in here:
        known, wanted = there.get(vocabulary, ()), here[vocabulary]
        known_set, wanted_set = set(known), set(wanted)
        new = [entry for entry in wanted if entry not in known_set]
        dropped = [entry for entry in known if entry not in wanted_set]
        kept = len(wanted) - len(new)
        found[vocabulary] = {
            "kept": kept,
            "new": len(new),
            "dropped": len(dropped),
            "first_new": new[:_NAMES_SHOWN],
            "first_dropped": dropped[:_NAMES_SHOWN],
        }
        tell = log.warning if known and wanted and not kept else log.info
        tell(
            "%s: %s: %d kept, %d new%s, %d dropped%s",
            name, vocabulary, kept, len(new), _shown(new), len(dropped), _shown(dropped),
        )  # fmt: skip
    return found


def _shown(entries: Names) -> str:
    """Format as (a, b, …)."""
    if not entries:
        return ""
    first = [entry if isinstance(entry, str) else ",".join(map(str, entry)) for entry in entries[:_NAMES_SHOWN]]  # type: ignore[call-overload]
    return f" ({', '.join(first)}{', …' if len(entries) > _NAMES_SHOWN else ''})"
