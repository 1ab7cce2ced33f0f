"""GDMix's keys that have no counterpart here, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

_SCORES = "scores are kept by row within the run; `gdmix score --scores gdmix` writes GDMix's score files"
_ALWAYS_SCORED = "every coordinate's rows are scored: the others train on these scores"

GDMIX_CONFIG: Mapping[str, str] = {
    "action": "a pipeline trains; to score new data use `gdmix score`",
    "stage": "follows from fixed_effect and random_effect",
    "training_score_dir": _SCORES,
    "validation_score_dir": _SCORES,
    "partition_list_file": "the run knows its shards",
    "prediction_score_column_name": _SCORES,
    "prediction_score_per_coordinate_column_name": _SCORES,
}

LINEAR: Mapping[str, str] = {
    "batch_size": "rows are not read in batches of so many",
    "data_format": "TFRecord or Parquet, as the files are named",
    "output_model_dir": "models lie in the run; to start from earlier ones name them in initial_model",
    "metric": "GDMix's workflow ignores it too and computes AUC; here it is metrics, the first of which decides",
    "optimizer": "GDMix has no such parameter either; here it is fixed_effect.solver",
    "sparsity_threshold": "GDMix does not read it either (its constant is 1e-4); here export.sparsity_threshold",
}

FIXED: Mapping[str, str] = {
    "copy_to_local": "rows are read once, into memory",
    "num_server_creation_retries": "workers find free ports themselves",
    "retry_interval": "workers find free ports themselves",
    "delayed_exit_in_seconds": "nothing has to wait at the end",
    "disable_fixed_effect_scoring_after_training": _ALWAYS_SCORED,
}

RANDOM: Mapping[str, str] = {
    "enable_local_indexing": "every entity's model has its own features only, always",
    "max_training_queue_size": "shards are spread over processes without a queue",
    "num_of_consumers": "engine.local.processes says how many cores are used (default: all)",
    "training_queue_timeout_in_seconds": "GDMix does not read it either",
    "disable_random_effect_scoring_after_training": _ALWAYS_SCORED,
}

# Read by a translation; here for suggestions where a key is misspelt.
TRANSLATED = (
    "gdmix_config", "metadata_file", "training_data_dir", "validation_data_dir", "feature_bag", "feature_file",
    "regularize_bias", "l2_reg_weight", "lbfgs_tolerance", "num_of_lbfgs_curvature_pairs", "num_of_lbfgs_iterations",
    "has_intercept", "offset_column_name", "fixed_effect_variance_mode", "random_effect_variance_mode",
    "partition_entity", "num_partitions",
)  # fmt: skip
