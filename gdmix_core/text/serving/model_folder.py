"""What a trained text network leaves beside its marker."""

from __future__ import annotations

from gdmix_core.models.network_files import INPUTS, SAVED_MODEL, WEIGHTS
from gdmix_core.text.network.network import TextNetwork
from gdmix_core.text.serving.saved_model import write_saved_model
from gdmix_core.text.starting_point import write_inputs
from gdmix_core.training_context import TrainingContext


def write_model(context: TrainingContext, network: TextNetwork) -> None:
    """Its weights and inputs, from which the next pass or run starts, and saved_model/; all of it is exported."""
    network.save_weights(context.model_file(WEIGHTS))
    write_inputs(context.model_file(INPUTS), network.inputs)
    write_saved_model(network, context.model_file(SAVED_MODEL), context.config.task)
