"""Weight tying and the craft of training neural networks: a module for each chapter of the book, and the bench, `tiedlib.lab`."""

from tiedlib._lazy import modules_of

__version__ = "0.1.0"
__getattr__, __dir__ = modules_of(__name__, __path__)
