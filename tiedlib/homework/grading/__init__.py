"""Grading a folder of submissions: `results.grade` reads each one (`submissions`), runs it in a process with limits (`sandbox`,
`confine`, `kernel`), examines its answers (`examine`), and writes what students and teacher get."""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
