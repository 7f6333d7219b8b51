"""Models that run over many steps: what is fed to each, what each is worth, what accumulates.

Nothing in here knows pytest, a runtime or a report.
"""
