"""Every intermediate tensor against the reference, streamed in groups.

Layers explain; the outputs of the plain engine decide.
"""
