"""The text network (DeText) of a GDMix workflow as a fixed effect of ours with `model: text`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration.names import plain
from gdmix_core.migration.translation import Section

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


def translate_detext(given: Section) -> dict[str, Any]:
    """Translate the network; its `data` is still the whole path of the folder.

    Raises ConfigError without a train_file.
    """
    if not given.get("train_file"):
        raise ConfigError(f"{given.name}: train_file is missing")
    parts = str(given.get("train_file")).rstrip("/").split("/")
    folder = "/".join(parts[: parts.index("trainingData") if "trainingData" in parts else -1])
    model: dict[str, Any] = {"model": "text", **_fields(given, folder)}
    ids, texts = _some(model, "document_ids", "user_ids"), _some(model, "document", "query", "user")
    sized = {"id_embedding": ids, "sparse_embedding": _some(model, "sparse")}
    for key, (ours, default) in _NUMBERS.items():
        if (key in given.settings or default is not None) and sized.get(ours, True):
            model[ours] = int(given.number(key, default))
    model["embedding"] = model["units"]
    if texts:
        model["encoder"] = _encoder(given)
        if "vocab_file" in given.settings:
            model["vocabulary"] = {"file": str(given.get("vocab_file"))}
    if _some(model, "query", "user", "user_ids"):
        model["interactions"] = [_INTERACTIONS.get(i, i) for i in _listed(given.get("emb_sim_func", "inner"))]
    model["hidden"] = [int(n) for n in _listed(given.get("num_hidden")) if n]
    if model["hidden"]:
        model["activation"] = "tanh"
    model["dropout"] = 0.0
    if given.get("add_doc_projection"):
        model["combine_fields"] = True
    model["optimizer"] = _optimizer(given)
    model |= _length(given)
    _notes(given)
    return {"fixed_effect": model, "data": folder or "."}


def _some(model: Mapping[str, Any], *keys: str) -> bool:
    """True where the model has any of these; settings about none of them would have no effect, and be refused."""
    return any(model.get(key) for key in keys)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else str(value).split() if isinstance(value, str) else [value]


def _fields(given: Section, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {ours: _listed(given.get(key)) for key, ours in _COLUMNS.items() if given.get(key)}
    if given.get("query_column_name"):
        found["query"] = str(given.get("query_column_name"))
    deep = _listed(given.get("sparse_ftrs_column_names"))
    linear = _listed(given.get("shallow_tower_sparse_ftrs_column_names"))
    if sparse := deep + [bag for bag in linear if bag not in deep]:
        found["sparse"] = sparse
    found["linear"] = linear
    counted_from_1 = (
        ", isSparse; DeText counts its indices from 1, so let the list begin with a line for the index 0, which no "
        "record has"
    )
    for kind, more in (("sparse", counted_from_1), ("dense", "")):
        for bag in found.get(kind, []):
            where = f"{folder}/featureList/{bag}"
            given.check(
                f"{kind}_ftrs_column_names", f"needs {where} (a name,term a line) and an entry in the metadata{more}"
            )
    return found


def _encoder(given: Section) -> dict[str, Any]:
    kind = str(given.get("ftr_ext", "cnn"))
    if kind == "cnn":
        windows = [int(n) for n in _listed(given.get("filter_window_sizes", 3))]
        return {"type": "cnn", "windows": windows, "filters": int(given.get("num_filters", 100))}
    if kind == "lstm":
        return {
            "type": "lstm",
            "layers": int(given.get("num_layers", 1)),
            "bidirectional": bool(given.get("bidirectional", False)),
            "dropout": plain(float(given.get("rnn_dropout", 0.0))),
        }
    if kind != "bert":
        raise ConfigError(f"{given.name}.ftr_ext: {kind!r}; DeText has cnn, lstm and bert")
    given.check(
        "bert_hub_url",
        f"{given.get('bert_hub_url')}: encoder.path must be a local folder with a Hugging Face or Keras model",
    )
    return {"type": "transformer", "path": "FOLDER-OF-THE-ENCODER"}


def _optimizer(given: Section) -> dict[str, Any]:
    kind = str(given.get("optimizer", "sgd"))
    if kind == "bert_adam":  # as DeText called it before its third version
        kind = "adamw"
        given.changed("optimizer", "bert_adam is adamw")
    if kind not in ("sgd", "adam", "adamw", "lamb"):
        given.check("optimizer", f"{kind} is not known here; adamw stands there now")
        kind = "adamw"
    found: dict[str, Any] = {
        "name": kind,
        "learning_rate": plain(given.number("learning_rate", 1.0)),
        "gradient_norm": plain(given.number("max_gradient_norm", 1.0)),
        "decay": "linear" if given.get("use_lr_schedule", True) else "none",
    }
    steps, warmup = (float(given.get(key, 0) or 0) for key in ("num_train_steps", "num_warmup_steps"))
    found["warmup"] = plain(min(0.99, warmup / steps)) if steps else 0.0
    if given.get("ftr_ext") == "bert":
        rate = abs(given.number("lr_bert", 0.0))
        if rate:
            found["encoder_learning_rate"] = plain(rate)
        else:
            given.check("lr_bert", "0, DeText's default, leaves the encoder as it is; here it learns as the rest does")
    if kind == "adamw":
        given.changed("optimizer", "adamw has bias correction here, which DeText's lacks by default")
    return found


def _length(given: Section) -> dict[str, Any]:
    if given.get("num_epochs"):
        return {"epochs": int(given.get("num_epochs"))}
    rows = int(given.get("num_train_steps", 1)) * int(given.get("train_batch_size", 32))
    given.check(
        "num_train_steps",
        f"DeText trains on {rows} rows; epochs is that divided by the number of training rows. 10 stands there now",
    )
    return {"epochs": 10}


def _notes(given: Section) -> None:
    task, loss = given.get("task_type", "ranking"), given.get("ltr_loss_fn", "pairwise")
    if task not in ("binary_classification", "ranking"):
        given.check("task_type", f"{task}: GDMix has logistic random effects on top; imported as binary")
    if task == "ranking":
        given.check(
            "task_type",
            "ranking: DeText's records are lists of documents; here a row is one document, and group names the list",
        )
        if loss != "pointwise":
            given.check("ltr_loss_fn", f"{loss}: no log-odds, which random effects need; imported with loss: pointwise")
    if "inner" in _listed(given.get("emb_sim_func", "inner")):
        given.changed("emb_sim_func", "inner is the cosine in DeText, and is called so here")
    given.changed("weight", "DeText's weights act through their mean alone; here each row's acts on that row")
    if given.get("distribution_strategy", "one_device") not in ("one_device", "mirrored"):
        given.check(
            "distribution_strategy",
            f"{given.get('distribution_strategy')}: fixed_effect.workers and mode say how it is trained",
        )
    for key in given.settings:
        if key in _IGNORED:
            given.result.ignored(key, _IGNORED[key])
        elif key not in _READ:
            given.result.ignored(f"{given.name}.{key}", "an argument of DeText without a counterpart")
