"""Homework on the chapters: checks that name the mistake, the build of a course, and grading.

`checks` and `guard` are what the checks of one homework are written with; the module named after a chapter holds the checks of
its homework; `course` builds what students and graders get, `grading` grades a folder of submissions in a `sandbox`. Notebooks
are in otter-grader's format; the extra `homework` installs what is needed.
"""

from tiedlib._lazy import modules_of

__getattr__, __dir__ = modules_of(__name__, __path__)
