"""Model specs: read, checked, and the files and code that they name.

Nothing here opens a model, makes data or knows a runtime.
"""
