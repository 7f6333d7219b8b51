"""One pytest run: options, cases, records, workers.

With `fixtures/` and `suites/` the only place that knows pytest; importing it imports no runtime.
"""
