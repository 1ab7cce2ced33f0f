"""A worker process of a text network: trains together with those that TF_CONFIG names, if it names any, and scores.

python -m gdmix_core.text.training.worker --run ROOT --step pass_01.global.train --threads 2
"""

from __future__ import annotations

import os
from typing import Any

from gdmix_core.errors import StepError
from gdmix_core.training_context import TrainingContext
from gdmix_core.workers import process, processes


def work(root: str, step_id: str, threads: int) -> None:
    context = TrainingContext.open(root, step_id)
    settings = context.settings.text
    from gdmix_core.text.training.group import join_group, start_tensorflow

    if settings.mode == "parameter_server":
        # Before TensorFlow's import: a call to a worker that is gone ends, so that its work can go to another.
        os.environ["GRPC_FAIL_FAST"] = "use_caller"
        start_tensorflow(threads)
        from gdmix_core.text.training import parameter_server

        parameter_server.work(context, threads)
        return
    group = join_group(threads)
    if group.workers != settings.workers:
        raise StepError(
            f"{step_id}: TF_CONFIG names {group.workers} workers, but fixed_effect.workers is {settings.workers}"
        )
    outcome = train_and_score(context, group)
    # Only when everyone's scores are written is there an outcome.
    group.barrier()
    if group.rank == 0:
        processes.send({"outcome": outcome})
    group.leave()


def train_and_score(context: TrainingContext, group: Any) -> dict[str, Any]:
    """Return what the step's marker tells; the first of the group writes the model."""
    from gdmix_core.text.network.network import TextNetwork
    from gdmix_core.text.network_rows import RowReader
    from gdmix_core.text.training import synchronous
    from gdmix_core.text.training.inputs_of_data import network_inputs
    from gdmix_core.text.training.result import write_model, write_scores
    from gdmix_core.text.training.row_scores import RowScores

    settings = context.settings.text
    if group.rank == 0:
        context.remove_score_parts()
    inputs = network_inputs(context, group.rank, group.barrier)
    network = TextNetwork(settings, inputs)
    reader = RowReader(context, network)
    scorer = RowScores(network)
    loop = synchronous.train(context, network, reader, scorer, group)
    outcome = loop.finish()
    write_scores(context, reader, scorer, group.rank, group.workers)
    if group.rank == 0:
        write_model(context, network)
    return outcome


if __name__ == "__main__":
    process.main("Trains a text network, as one of the workers in TF_CONFIG.", work)
