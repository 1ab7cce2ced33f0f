"""A process of the step `initialize`, which remaps the text networks of another run to this run's vocabularies.

python -m gdmix_core.text.initial.worker --run ROOT --step initialize --threads 2
"""

from __future__ import annotations

from gdmix_core.models.initial import newest_run
from gdmix_core.models.initial.locate import find_initial
from gdmix_core.models.initial.network import InitialNetwork
from gdmix_core.pipeline.run import Run
from gdmix_core.workers import process, processes


def work(root: str, step_id: str, threads: int) -> None:
    run = Run.open(root)
    from gdmix_core.text.training.group import join_group

    join_group(threads)
    from gdmix_core.text.initial.network import prepare

    found = find_initial(run.config, newest_run.recorded(run))
    networks = {name: model for name, model in found.items() if isinstance(model, InitialNetwork)}
    processes.send({"outcome": {name: prepare(run, name, network) for name, network in networks.items()}})


if __name__ == "__main__":
    process.main("Lays out the text networks that a run starts from.", work)
