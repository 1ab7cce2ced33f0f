"""The workers that train a network together, each with its own copy of the weights: they add up their gradients.

All apply the same update of the same sum, so the copies stay the same to the bit; no weight is ever sent. The sum is
one all-reduce of MultiWorkerMirroredStrategy: a ring of gRPC between processors, NCCL between GPUs.
"""

from __future__ import annotations

import os
from typing import Any

from gdmix_core.workers.all_reduce import SingleWorker
from gdmix_core.workers.tensorflow_all_reduce import TensorFlowAllReduce, place_in_cluster
from gdmix_core.workers.tensorflow_import import import_tensorflow

TrainingGroup = SingleWorker | TensorFlowAllReduce


def join_group(threads: int) -> TrainingGroup:
    """Join the group TF_CONFIG names; without it a group of one. Call it first of all.

    threads: that TensorFlow may use. On a machine with several GPUs each worker takes one. Raises WorkerLostError.
    """
    tensorflow = start_tensorflow(threads)
    rank, workers = place_in_cluster() if "TF_CONFIG" in os.environ else (0, 1)
    _take_gpu(tensorflow, rank)
    if workers > 1:
        return TensorFlowAllReduce(tensorflow)
    # TensorFlow would look for the others.
    os.environ.pop("TF_CONFIG", None)
    return SingleWorker()


def start_tensorflow(threads: int) -> Any:
    what = "a fixed effect with model: text"
    return import_tensorflow(keras=True, gpus=True, extra="text", what=what, threads=threads)


def _take_gpu(tensorflow: Any, rank: int) -> None:
    gpus = tensorflow.config.list_physical_devices("GPU")
    if gpus:
        own = gpus[rank % len(gpus)]
        tensorflow.config.set_visible_devices(own, "GPU")
        # Workers may share a GPU; none takes all of its memory at the start.
        tensorflow.config.experimental.set_memory_growth(own, True)
