"""The text network (DeText) of a GDMix workflow as a fixed effect of ours with `model: text`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration.names import number, plain
from gdmix_core.migration.notes import Translation

_COLUMNS = {
    "doc_text_column_names": "document",
    "user_text_column_names": "user",
    "doc_id_column_names": "document_ids",
    "user_id_column_names": "user_ids",
    "dense_ftrs_column_names": "dense",
}
# Ours, and DeText's default where that is another one.
_NUMBERS: Mapping[str, tuple[str, float | None]] = {
    "max_len": ("max_tokens", None),
    "num_units": ("units", 128),
    "num_units_for_id_ftr": ("id_embedding", 128),
    "sparse_embedding_size": ("sparse_embedding", 1),
    "train_batch_size": ("batch", 32),
    "random_seed": ("seed", 1234),
}
_INTERACTIONS = {"inner": "cosine", "hadamard": "hadamard", "diff": "difference", "concat": "concat"}
_IGNORED = {
    "dev_file": "validationData beside trainingData",
    "test_file": "validation rows are scored and measured in every pass",
    "min_len": "short texts are padded as far as the widest window needs",
    "nums_sparse_ftrs": "the metadata give each bag its size",
    "nums_dense_ftrs": "the metadata give each bag its size",
    "shallow_tower_sparse_ftrs_column_names": "these bags enter the score linearly: linear",
    "nums_shallow_tower_sparse_ftrs": "the metadata give each bag its size",
    "num_classes": "a random effect adds to one score",
    "task_type": "the pipeline's task says it",
    "pmetric": "the pipeline's first metric decides",
    "all_metrics": "the pipeline's metrics",
    "steps_per_stats": "progress is shown all the time",
    "steps_per_eval": "evaluations: so many within an epoch",
    "num_eval_rounds": "evaluations: so many within an epoch",
    "num_eval_steps": "all validation rows are scored",
    "test_batch_size": "rows are scored in blocks",
    "keep_checkpoint_max": "one checkpoint is kept, and the best weights",
    "resume_training": "a step that was killed goes on from its checkpoint",
    "out_dir": "the model lies in the run",
    "num_gpu": "GPUs are used where there are any",
    "all_reduce_alg": "TensorFlow chooses",
    "explicit_allreduce": "gradients are summed before they are clipped",
    "run_eagerly": "never",
    "std_file": "each value of a dense bag is scaled by weights that are learnt",
    "rescale_dense_ftrs": "each value of a dense bag is scaled by weights that are learnt",
    "add_user_projection": "combine_fields is for both sides",
}
_READ = (
    "gdmix_config", "train_file", "query_column_name", "sparse_ftrs_column_names", "vocab_file", "ftr_ext",
    "num_filters", "filter_window_sizes", "num_layers", "bidirectional", "rnn_dropout", "bert_hub_url", "lr_bert",
    "emb_sim_func", "num_hidden", "add_doc_projection", "ltr_loss_fn", "optimizer", "learning_rate",
    "max_gradient_norm", "use_lr_schedule", "num_warmup_steps", "num_train_steps", "num_epochs",
    "distribution_strategy", *_COLUMNS, *_NUMBERS,
)  # fmt: skip


def translate_detext(name: str, settings: Mapping[str, Any], result: Translation) -> dict[str, Any]:
    """Our coordinate; its `data` is still the whole path of the folder. Raises ConfigError without a train_file."""
    training = settings.get("train_file")
    if not training:
        raise ConfigError(f"{name}: train_file is missing")
    parts = str(training).rstrip("/").split("/")
    folder = "/".join(parts[: parts.index("trainingData")]) if "trainingData" in parts else "/".join(parts[:-1])
    model: dict[str, Any] = {"model": "text", **_fields(name, settings, folder, result)}
    ids, texts = _some(model, "document_ids", "user_ids"), _some(model, "document", "query", "user")
    sized = {"id_embedding": ids, "sparse_embedding": _some(model, "sparse")}
    for key, (ours, default) in _NUMBERS.items():
        if (key in settings or default is not None) and sized.get(ours, True):
            model[ours] = int(number(settings.get(key, default), f"{name}.{key}"))
    model["embedding"] = model["units"]
    if texts:
        model["encoder"] = _encoder(name, settings, result)
        if "vocab_file" in settings:
            model["vocabulary"] = {"file": str(settings["vocab_file"])}
    if _some(model, "query", "user", "user_ids"):
        model["interactions"] = [_INTERACTIONS.get(i, i) for i in _listed(settings.get("emb_sim_func", "inner"))]
    model["hidden"] = [int(n) for n in _listed(settings.get("num_hidden")) if n]
    if model["hidden"]:
        model["activation"] = "tanh"
    model["dropout"] = 0.0
    if settings.get("add_doc_projection"):
        model["combine_fields"] = True
    model["optimizer"] = _optimizer(name, settings, result)
    model |= _length(name, settings, result)
    _notes(name, settings, result)
    return {"fixed_effect": model, "data": folder or "."}


def _some(model: Mapping[str, Any], *keys: str) -> bool:
    """Whether it has any of these; what is about none of them would have no effect, and be refused."""
    return any(model.get(key) for key in keys)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else str(value).split() if isinstance(value, str) else [value]


def _fields(name: str, settings: Mapping[str, Any], folder: str, result: Translation) -> dict[str, Any]:
    found: dict[str, Any] = {ours: _listed(settings[key]) for key, ours in _COLUMNS.items() if settings.get(key)}
    if settings.get("query_column_name"):
        found["query"] = str(settings["query_column_name"])
    deep = _listed(settings.get("sparse_ftrs_column_names"))
    linear = [bag for bag in _listed(settings.get("shallow_tower_sparse_ftrs_column_names")) if bag not in deep]
    if deep or linear:
        found["sparse"] = deep + linear
    found["linear"] = _listed(settings.get("shallow_tower_sparse_ftrs_column_names"))
    for bag in found.get("sparse", []):
        result.check(
            f"{name}.sparse_ftrs_column_names",
            f"needs {folder}/featureList/{bag} (a name,term a line) and an entry in the metadata, isSparse; DeText "
            "counts its indices from 1, so let the list begin with a line for the index 0, which no record has",
        )
    for bag in found.get("dense", []):
        result.check(
            f"{name}.dense_ftrs_column_names",
            f"needs {folder}/featureList/{bag} (a name,term a line) and an entry in the metadata",
        )
    return found


def _encoder(name: str, settings: Mapping[str, Any], result: Translation) -> dict[str, Any]:
    kind = str(settings.get("ftr_ext", "cnn"))
    if kind == "cnn":
        windows = [int(n) for n in _listed(settings.get("filter_window_sizes", 3))]
        return {"type": "cnn", "windows": windows, "filters": int(settings.get("num_filters", 100))}
    if kind == "lstm":
        return {
            "type": "lstm",
            "layers": int(settings.get("num_layers", 1)),
            "bidirectional": bool(settings.get("bidirectional", False)),
            "dropout": plain(float(settings.get("rnn_dropout", 0.0))),
        }
    if kind != "bert":
        raise ConfigError(f"{name}.ftr_ext: {kind!r}; DeText has cnn, lstm and bert")
    result.check(
        f"{name}.bert_hub_url",
        f"{settings.get('bert_hub_url')}: encoder.path must be a local folder with a Hugging Face or Keras model",
    )
    return {"type": "transformer", "path": "FOLDER-OF-THE-ENCODER"}


def _optimizer(name: str, settings: Mapping[str, Any], result: Translation) -> dict[str, Any]:
    kind = str(settings.get("optimizer", "sgd"))
    if kind == "bert_adam":  # as DeText called it before its third version
        kind = "adamw"
        result.changed(f"{name}.optimizer", "bert_adam is adamw")
    if kind not in ("sgd", "adam", "adamw", "lamb"):
        result.check(f"{name}.optimizer", f"{kind} is not known here; adamw stands there now")
        kind = "adamw"
    found: dict[str, Any] = {
        "name": kind,
        "learning_rate": plain(number(settings.get("learning_rate", 1.0), f"{name}.learning_rate")),
        "gradient_norm": plain(number(settings.get("max_gradient_norm", 1.0), f"{name}.max_gradient_norm")),
        "decay": "linear" if settings.get("use_lr_schedule", True) else "none",
    }
    steps, warmup = (float(settings.get(key, 0) or 0) for key in ("num_train_steps", "num_warmup_steps"))
    found["warmup"] = plain(min(0.99, warmup / steps)) if steps else 0.0
    if settings.get("ftr_ext") == "bert":
        rate = abs(number(settings.get("lr_bert", 0.0), f"{name}.lr_bert"))
        if rate:
            found["encoder_learning_rate"] = plain(rate)
        else:
            result.check(
                f"{name}.lr_bert", "0, DeText's default, leaves the encoder as it is; here it learns as the rest does"
            )
    if kind == "adamw":
        result.changed(f"{name}.optimizer", "adamw has bias correction here, which DeText's lacks by default")
    return found


def _length(name: str, settings: Mapping[str, Any], result: Translation) -> dict[str, Any]:
    if settings.get("num_epochs"):
        return {"epochs": int(settings["num_epochs"])}
    rows = int(settings.get("num_train_steps", 1)) * int(settings.get("train_batch_size", 32))
    result.check(
        f"{name}.num_train_steps",
        f"DeText trains on {rows} rows; epochs is that divided by the number of training rows. 10 stands there now",
    )
    return {"epochs": 10}


def _notes(name: str, settings: Mapping[str, Any], result: Translation) -> None:
    task, loss = settings.get("task_type", "ranking"), settings.get("ltr_loss_fn", "pairwise")
    if task not in ("binary_classification", "ranking"):
        result.check(f"{name}.task_type", f"{task}: GDMix has logistic random effects on top; imported as binary")
    if task == "ranking":
        result.check(
            f"{name}.task_type",
            "ranking: DeText's records are lists of documents; here a row is one document, and group names the list",
        )
        if loss != "pointwise":
            result.check(
                f"{name}.ltr_loss_fn", f"{loss}: no log-odds, which random effects need; imported with loss: pointwise"
            )
    if "inner" in _listed(settings.get("emb_sim_func", "inner")):
        result.changed(f"{name}.emb_sim_func", "inner is the cosine in DeText, and is called so here")
    result.changed(f"{name}.weight", "DeText's weights act through their mean alone; here each row's acts on that row")
    if settings.get("distribution_strategy", "one_device") not in ("one_device", "mirrored"):
        result.check(
            f"{name}.distribution_strategy",
            f"{settings['distribution_strategy']}: fixed_effect.workers and mode say how it is trained",
        )
    for key in settings:
        if key in _IGNORED:
            result.ignored(key, _IGNORED[key])
        elif key not in _READ:
            result.ignored(f"{name}.{key}", "an argument of DeText without a counterpart")
