"""Engines spoilt on purpose, judged as the suites judge: what passes all the same, and right ones that do not pass."""
