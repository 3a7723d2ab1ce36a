"""A language model as a run: its configuration, its objective, its training, and what is done with the trained model."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
