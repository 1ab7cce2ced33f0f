"""What a trained text network leaves beside its marker."""

from __future__ import annotations

from gdmix_core.models.network_files import INPUTS, SAVED_MODEL, WEIGHTS
from gdmix_core.pipeline.plan import CoordinateStep
from gdmix_core.pipeline.run import Run
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.serving.saved_model import write_saved_model
from gdmix_core.text.starting_point import model_file, write_inputs


def write_model(run: Run, step: CoordinateStep, network: TextNetwork) -> None:
    """Its weights and inputs, from which the next pass or run starts, and saved_model/; all of it is exported."""
    network.save_weights(model_file(run, step, WEIGHTS))
    write_inputs(model_file(run, step, INPUTS), network.inputs)
    write_saved_model(network, model_file(run, step, SAVED_MODEL), run.config.task)
