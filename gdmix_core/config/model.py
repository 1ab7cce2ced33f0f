"""The base of all models of the configuration, and the types that they share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    ValidationInfo,
    field_validator,
)

from gdmix_core import paths
from gdmix_core.config.secret_settings import carries_secret
from gdmix_core.errors import ConfigError


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number_or_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what Python takes for a number or a boolean: true for 1, no for false, 1_0 for ten. YAML does not."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        # A template makes a text of all that it renders.
        if annotation is bool and str(value).lower() not in ("true", "false"):
            raise ValueError("input should be true or false")
        # A number, or a word or nothing in its place.
        kinds = [kind for kind in get_args(annotation) or (annotation,) if get_origin(kind) is not Literal]
        if {int, float} & set(kinds) and set(kinds) <= {int, float, type(None)}:
            if isinstance(value, bool):
                raise ValueError(f"input should be a number, not {str(value).lower()}")
            if isinstance(value, str) and "_" in value:
                raise ValueError("input should be a number; digits are written without a line between them")
        return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


def one_or_list(of: Any) -> BeforeValidator:
    """Make a list of a single value. of: what is allowed there, for the JSON schema"""
    return BeforeValidator(_listed, json_schema_input_type=of)


def short_for(key: str, of: Any) -> BeforeValidator:
    """Make a mapping of a text, which has it at `key`. of: what is allowed there, for the JSON schema"""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value, json_schema_input_type=of)


_lenient: ContextVar[bool] = ContextVar("gdmix_lenient", default=False)


@contextlib.contextmanager
def leniently() -> Iterator[None]:
    """Read configurations in the block as those that some run was made with, also by an earlier version: not what a
    user wants now, so keys without effect do no harm there."""
    token = _lenient.set(True)
    try:
        yield
    finally:
        _lenient.reset(token)


def is_lenient() -> bool:
    return _lenient.get()


_absolute: ContextVar[bool] = ContextVar("gdmix_absolute", default=False)


@contextlib.contextmanager
def with_absolute_paths() -> Iterator[None]:
    """Make local paths of a configuration absolute in the block: steps of a run may work in other directories."""
    token = _absolute.set(True)
    try:
        yield
    finally:
        _absolute.reset(token)


def _path(value: str) -> str:
    if is_lenient():
        return value
    if carries_secret(value):
        raise ValueError(
            "the URL holds a password or a signature, which would be written to config.yaml and to logs; take it out, "
            "and give credentials by the environment, a profile, or fsspec's configuration"
        )
    try:
        value = paths.expanded(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None  # pydantic adds the key path to ValueErrors alone
    return paths.absolute(value) if _absolute.get() else value


Path = Annotated[str, AfterValidator(_path)]
"""A file or directory, or a URL. ~ is the home folder; environment variables are refused, not expanded."""


def paths_of(model: BaseModel, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key, path) of every file, directory or URL that a configuration names; at: the key path of the model."""
    for name, field in type(model).model_fields.items():
        yield from _paths_in(getattr(model, name), _holds_path(field.annotation, field.metadata), f"{at}{name}")


def _paths_in(value: Any, is_path: bool, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        yield from paths_of(value, f"{key}.")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _paths_in(item, is_path, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths_in(item, is_path, key)
    elif is_path and isinstance(value, str):
        yield key, value


def _holds_path(annotation: Any, metadata: Iterable[Any]) -> bool:
    """Return whether strings in a field are of the type Path."""
    if any(isinstance(item, AfterValidator) and item.func is _path for item in metadata):
        return True
    parts = getattr(annotation, "__args__", ())
    return any(_holds_path(part, getattr(part, "__metadata__", ())) for part in parts)


def refuse_without_effect(model: BaseModel, keys: Iterable[str], why: str, at: str = "") -> None:
    """Raise ValueError for a key that says something which nothing would come of; why: the rest of the sentence.

    A default passes, as a run's own config.yaml spells out all of them. at: the key path of the model
    """
    for key in keys:
        if not is_lenient() and getattr(model, key) != type(model).model_fields[key].get_default(
            call_default_factory=True
        ):
            raise ValueError(f"{at}{key} has no effect {why}")


# Names, or paths, of which a single one need not be put into a list.
Names = Annotated[list[str], one_or_list(str | list[str])]
Paths = Annotated[list[Path], one_or_list(str | list[str])]


def chosen_by(key: str, default: str, tags: Mapping[str, str]) -> Discriminator:
    """Choose the model of a union by what a mapping says at `key`. tags: what it may say → the Tag of the model"""
    return Discriminator(lambda value: tags.get(_value_at(value, key, default), tags[default]))


def known(key: str, default: str, tags: Mapping[str, str]) -> BeforeValidator:
    """Raise one clear error for what is at `key` of such a union; else it would be taken for the default's."""

    def check(value: Any) -> Any:
        name = _value_at(value, key, default)
        if name not in tags:
            raise ValueError(f"{key} {name!r} is not known; it may be {', '.join(tags)} (default {default})")
        return value

    return BeforeValidator(check)


def _value_at(value: Any, key: str, default: str) -> str:
    return str(value.get(key, default) if isinstance(value, dict) else getattr(value, key, default))
