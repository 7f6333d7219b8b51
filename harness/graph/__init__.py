"""ONNX files read and written safely, and their graphs walked.

Nothing here knows precisions, specs or a runtime.
"""
