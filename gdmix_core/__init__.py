"""Mixed-effect (GLMix) model training: the library and the `gdmix` command."""

__version__ = "0.1.0"
