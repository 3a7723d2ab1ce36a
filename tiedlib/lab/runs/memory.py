"""Memory that stays with the process between two steps of training: `keep_memory`."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_memory"]

_LARGEST = 2**31 - 1  # bytes, of what mallopt takes
_OPTIONS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}  # and their numbers in malloc.h


def keep_memory() -> bool:
    """Have the C library keep what this process frees, in the place of handing it back to the system; True if it now does.

    glibc returns blocks above 32 MB as soon as they are free. A step of training that needs one then gets it anew, page by page,
    each filled with zeros by the system. It is a setting of the whole process (mallopt(3), M_TRIM_THRESHOLD and
    M_MMAP_THRESHOLD), so only a process that is there for training should make it. What the environment sets stays; elsewhere
    than on glibc nothing happens. Blocks that are kept do not always fit again, so that the process holds more at its peak.
    """
    if platform.libc_ver()[0] != "glibc" or _OPTIONS.keys() & os.environ.keys():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, _LARGEST) == 1 for option in _OPTIONS.values())
