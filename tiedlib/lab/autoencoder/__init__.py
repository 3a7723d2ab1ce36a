"""A variational auto-encoder as a run: its configuration and its training."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
