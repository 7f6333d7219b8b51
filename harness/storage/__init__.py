"""The content-keyed store on disk: kept, checked, pruned.

Nothing here knows what is stored.
"""
