"""An earlier run's text network, as its export holds it, and whether this run's network can start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gdmix_core import storage
from gdmix_core.config.model import leniently
from gdmix_core.config.pipeline import Config
from gdmix_core.config.text import TextModel
from gdmix_core.config.text_architecture import differences
from gdmix_core.data.feature_list import FeatureList, read_feature_list
from gdmix_core.errors import ConfigError, DataError
from gdmix_core.models.network_files import CLASSES, INPUTS, SAVED_MODEL, WEIGHTS, features_file

# Where the files of an exported network lie, below its folder.
_FOLDERS = ("", "features", SAVED_MODEL, f"{SAVED_MODEL}/variables", f"{SAVED_MODEL}/assets")


@dataclass(frozen=True)
class InitialNetwork:
    """where: the export's folder of the coordinate, a path or URL; settings: those it was trained with

    files: (path, size in bytes, change stamp) of all
    """

    where: str
    files: list[tuple[str, int, str]]
    settings: TextModel

    @property
    def saved_model(self) -> str:
        return self.path(SAVED_MODEL)

    def path(self, name: str) -> str:
        return storage.join(self.where, name)

    def features(self, bag: str) -> FeatureList:
        """Return the list to which the network's feature indices of a bag refer."""
        return read_feature_list(self.path(features_file(bag)))

    @property
    def classes(self) -> FeatureList | None:
        """The classes of multilabel_classification, in the order of the scores."""
        path = self.path(CLASSES)
        return read_feature_list(path) if storage.exists(path) else None


def find_network(export: str, manifest: Mapping[str, Any], name: str, config: Config) -> InitialNetwork:
    """Return the network of a coordinate in an export, which is there by its manifest.

    Raises ConfigError for another architecture, DataError where it was trained for another task, where a file is
    missing, or where its scores are not margins but a locked one's must be.
    """
    folder = storage.join(export, name)
    coordinate = config.coordinates[name]
    earlier = manifest["config"]
    if earlier["task"] != config.task:
        raise DataError(
            f"{folder}: a network of {earlier['task']}, but this pipeline's task is {config.task}; it cannot be "
            "started from"
        )
    try:
        with leniently():
            settings = TextModel.model_validate(earlier["coordinates"][name]["fixed_effect"])
    except ValidationError as error:
        raise DataError(f"{folder}: settings of a network that this version does not know ({error})") from None
    _check_architecture(folder, name, settings, earlier.get("classes"), config)
    if coordinate.locked and settings.loss != "pointwise":
        raise DataError(
            f"{folder}: trained with loss {settings.loss}, so its scores are no margins that others could add to; it "
            f"cannot be locked: take locked: true from coordinate {name}"
        )
    files = [file for part in _FOLDERS for file in storage.list_files(storage.join(folder, part) if part else folder)]
    there = {path.removeprefix(f"{folder}/") for path, _, _ in files}
    needed = [f"{SAVED_MODEL}/saved_model.pb", *([] if coordinate.locked else [WEIGHTS, INPUTS])]
    missing = [file for file in needed if file not in there]
    if missing:
        raise DataError(
            f"{folder}: {missing[0]} is not there, so the network cannot be started from; export the earlier run again "
            f"(take {export} away, then `gdmix run` with its configuration makes it anew), or start anew with "
            f"coordinates.{name}.fixed_effect.warm_start: false"
        )
    return InitialNetwork(folder, files, settings)


def _check_architecture(folder: str, name: str, earlier: TextModel, classes: int | None, config: Config) -> None:
    found = {
        f"coordinates.{name}.fixed_effect.{key}": values
        for key, values in differences(earlier, config.coordinates[name].text).items()
    }
    if classes != config.classes:
        found["classes"] = (classes, config.classes)
    if not found:
        return
    told = "; ".join(f"{key} is {there!r} there and {here!r} here" for key, (there, here) in found.items())
    otherwise = (
        "a locked network is taken as it is"
        if config.coordinates[name].locked
        else f"or start anew, once or always, with coordinates.{name}.fixed_effect.warm_start: false"
    )
    raise ConfigError(
        f"initial_model: the network in {folder} has another architecture, so its weights do not fit: {told}. Set it "
        f"as it was there; {otherwise}"
    )
