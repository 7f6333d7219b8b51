"""Child processes for what may crash, hang or eat all memory.

The child imports what it is handed and nothing of the current folder.
"""
