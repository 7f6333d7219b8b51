"""Task metrics on labelled data: what an error costs the user.

Nothing here knows tolerances of tensors.
"""
