"""The bench: data, figures, claims, proofs, records, training, the command line."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
