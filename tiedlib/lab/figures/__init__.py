"""Figures: how they look, how their states are packed, and the still pictures of them. The page and a live notebook share it."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
