"""The errors a user can cause. Each says what is wrong, where, and what to do."""

from __future__ import annotations


class GdmixError(Exception):
    """Base of every error this project raises on purpose; the command line prints it without a traceback."""


class ConfigError(GdmixError):
    """The pipeline's YAML (or a value that overrides it) is not usable; the message names the key path."""


class DataError(GdmixError):
    """Input, frame, shard or model files are not usable; the message names the file and the column or offset."""


class StorageError(GdmixError):
    """A file system or a storage service refused; the message names the path, and what to do. It may pass."""


class StepError(GdmixError):
    """A step could not run: something it needs is not there, or a worker process failed."""


class ReplacedRunError(StepError):
    """Another run has begun in the run's directory, with another configuration."""
