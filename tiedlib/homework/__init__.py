"""Homework on the chapters: masters in otter-grader's format, their checks, and grading that needs no container."""
