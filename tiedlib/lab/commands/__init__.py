"""The command line `tiedlib`, a module for each command."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
