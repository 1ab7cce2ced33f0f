"""A command line of Photon ML's GAME training as a pipeline of ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.metrics.registry import DEFAULT_METRIC
from gdmix_core.migration.names import number, pipeline_name, valid_names
from gdmix_core.migration.photon_coordinate import Shard, named_pairs, pairs_of, search_ranges, translate_coordinate
from gdmix_core.migration.photon_flags import IGNORED, NORMALIZATION, REPEATED, TASKS, TRANSLATED
from gdmix_core.migration.photon_model import translate_initial_model
from gdmix_core.migration.translation import Translation

_METRICS = {
    "AUC": "auc",
    "RMSE": "rmse",
    "LOGISTICLOSS": "logloss",
    "POISSONLOSS": "poisson_loss",
    "SMOOTHEDHINGELOSS": "smoothed_hinge",
    "SQUAREDLOSS": "mse",
}


def translate_photon(text: str) -> Translation:
    """Translate the command, or its options alone; # begins a comment, a backslash continues on the next line.

    Raises ConfigError for an option that GAME training does not have, and for one that cannot be said here.
    """
    flags, repeated = _parse(text)
    result = Translation()
    for key in flags:
        if key in IGNORED:
            result.ignored(f"--{key}", IGNORED[key])
    task = _named(flags, "training-task", TASKS)
    shards = {s.name: s for s in (Shard.parse(item) for item in repeated["feature-shard-configurations"])}
    option = "coordinate-configurations"
    configured = {c.pop("name"): c for c in (named_pairs(option, text) for text in repeated[option])}
    sequence = _required(flags, "coordinate-update-sequence").split(",")
    names = valid_names(sequence)
    result.renamed(names)
    initial, locked = translate_initial_model(flags, names, shards, configured, result)
    coordinates: dict[str, Any] = {}
    for name in sequence:
        if name in locked:
            coordinates[names[name]] = locked[name]
        elif name in configured:
            coordinates[names[name]] = translate_coordinate(name, configured[name], shards, result)
        else:
            raise ConfigError(f"coordinate {name} of the update sequence has no --coordinate-configurations")
    _for_all(flags, coordinates, result)
    tune = _tune(flags, {names[n]: c for n, c in configured.items() if n in names}, result)
    for coordinate in coordinates.values():
        if tune and isinstance(coordinate.get("l2"), list):
            coordinate["l2"] = coordinate["l2"][0]
    source = _required(flags, "input-data-directories").split(",")
    result.content = {
        "name": pipeline_name(_required(flags, "root-output-directory")),
        "task": task,
        "input": source[0],
        "output": _required(flags, "root-output-directory").rstrip("/"),
        "columns": _columns(flags, result),
        "coordinates": coordinates,
        **({"initial_model": initial} if initial else {}),
        "passes": {
            "max": int(number(flags.get("coordinate-descent-iterations", "1"), "coordinate-descent-iterations")),
            "min_delta": "none",  # Photon ML makes all of them, and keeps the best
        },
        **tune,
        "metrics": _metrics(flags, task, result),
        "export": {
            "sparsity_threshold": number(flags.get("model-sparsity-threshold", "1e-4"), "model-sparsity-threshold")
        },
    }
    _general_notes(flags, source, result)
    return result


def _parse(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Read {option: value}, and {option that may occur several times: values}."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    start = next(
        (k for k, word in enumerate(words) if word.lstrip("-") in TRANSLATED | set(IGNORED) and word[:2] == "--"), 0
    )
    flags: dict[str, str] = {}
    repeated: dict[str, list[str]] = {key: [] for key in REPEATED}
    at = start
    while at < len(words):
        word, equals, value = words[at].partition("=") if "=" in words[at].split(",")[0] else (words[at], "", "")
        key = word.removeprefix("--")
        if word == key or key not in TRANSLATED | set(IGNORED):
            raise ConfigError(f"{words[at]}: no option of GAME training; see section 1.1 of its documentation")
        if not equals:
            at += 1
            if at == len(words):
                raise ConfigError(f"--{key}: its value is missing")
            value = words[at]
        at += 1
        if key in REPEATED:
            repeated[key].append(value)
        else:
            flags[key] = value
    return flags, repeated


def _required(flags: Mapping[str, str], key: str) -> str:
    if not flags.get(key):
        raise ConfigError(f"--{key} is missing, which GAME training requires")
    return flags[key]


def _named(flags: Mapping[str, str], key: str, known: Mapping[str, str]) -> str:
    value = _required(flags, key).upper()
    if value not in known:
        raise ConfigError(f"--{key} {value}: expected one of {', '.join(known)}")
    return known[value]


def _for_all(flags: Mapping[str, str], coordinates: dict[str, Any], result: Translation) -> None:
    """Options for the whole command that here belong to each coordinate."""
    scaling = _named({"normalization": "NONE"} | dict(flags), "normalization", NORMALIZATION)
    variances = flags.get("variance-computation-type", "NONE").lower()
    for coordinate in coordinates.values():
        if coordinate.get("locked"):
            continue
        if scaling != "none" and "bag" in coordinate:
            coordinate["normalization"] = scaling
        if variances != "none":
            coordinate["variances"] = variances
    if scaling != "none":
        result.changed(
            "--normalization", "a choice of each coordinate; the penalty is on the scaled coefficients, as there"
        )


def _columns(flags: Mapping[str, str], result: Translation) -> dict[str, str]:
    given = pairs_of(flags.get("input-column-names", ""))
    columns = {"uid": given.get("uid", "uid"), "label": given.get("response", "response")}
    columns |= {role: given[role] for role in ("weight", "offset") if role in given}
    if not {"weight", "offset"} <= set(given):
        result.check(
            "--input-column-names",
            "Photon ML reads columns called weight and offset where there are any; name them in columns if yours do",
        )
    if "metadataMap" in given:
        result.check("--input-column-names metadataMap", "ids have columns of their own here, not a map")
    return columns


def _metrics(flags: Mapping[str, str], task: str, result: Translation) -> list[str]:
    found = []
    for written in flags.get("validation-evaluators", "").split(","):
        kind, _, column = written.strip().partition(":")
        precision = re.fullmatch(r"PRECISION@(\d+)", kind.upper())
        if not written.strip():
            continue
        if precision and column:
            found.append(f"precision@{precision[1]}:{column}")
        elif kind.upper() == "AUC" and column:
            found.append(f"auc@{column}")
        elif kind.upper().replace("_", "") in _METRICS and not column:
            found.append(_METRICS[kind.upper().replace("_", "")])
        else:
            result.ignored(f"--validation-evaluators {written}", "there is no such metric here")
    result.changed(
        "--validation-evaluators",
        "losses and RMSE are weighted means here (Photon ML sums losses, and divides RMSE by the number of rows); AUC "
        "counts rows by their weight (there it does so per group only)",
    )
    return found or [DEFAULT_METRIC[task]]


def _tune(flags: Mapping[str, str], configured: Mapping[str, Mapping[str, str]], result: Translation) -> dict[str, Any]:
    method = flags.get("hyper-parameter-tuning", "NONE").lower()
    if method == "none":
        return {}
    result.changed(
        "--hyper-parameter-tuning",
        "works: in Photon ML's open version the tuner (DUMMY) returns nothing, and only the grid of reg.weights is "
        "tried. Of a list of weights the first one is kept as l2, which the search replaces",
    )
    trials = number(_required(flags, "hyper-parameter-tuning-iterations"), "hyper-parameter-tuning-iterations")
    ranges = {key: span for name, given in configured.items() for key, span in search_ranges(name, given).items()}
    return {"tune": {"method": method, "trials": int(trials), "parameters": ranges}}


def _general_notes(flags: Mapping[str, str], source: list[str], result: Translation) -> None:
    result.check(
        "--input-data-directories",
        "Photon ML's Avro records are not read; write them as TFRecord or Parquet in the input layout "
        f"(docs/design.md): trainingData, validationData, metadata and featureList below {source[0]}",
    )
    if len(source) > 1:
        result.check("--input-data-directories", f"of {len(source)} directories only the first one is named")
    result.changed(
        "tolerance",
        "not taken over. Photon ML stops relative to the objective and gradient at zero; here the gradient's max-norm "
        "must be at most tolerance × max(1, Σ weight)",
    )
    result.changed(
        "--coordinate-descent-iterations",
        "passes.max: a further pass runs while validation improves; the best pass is exported, of whole passes",
    )
    result.changed(
        "--model-sparsity-threshold",
        "export.sparsity_threshold: leaves small means out of Avro files, but never the variance of one that stays",
    )
