"""The runs that make the tables of the chapters, a module for each chapter; `reproduce` makes them, `sweep` tries settings."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
