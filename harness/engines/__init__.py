"""What is derived from one spec, each thing once: lowered models, engines, reference, controls.

Nothing here compares or judges.
"""
