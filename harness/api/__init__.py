"""What `harness` hands out: functions for scripts and notebooks, thin over the rooms below.

Nothing is decided here and no test framework is imported; the suites run in a process of their own.
"""
