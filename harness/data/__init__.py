"""What engines are fed: arrays, shapes, batches, samples.

Nothing here runs or judges an engine.
"""
