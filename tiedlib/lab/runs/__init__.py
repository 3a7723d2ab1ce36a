"""One run of anything: its configuration, checkpoints, record and provenance; many runs at once, by processes or by a cluster."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
