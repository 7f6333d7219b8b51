"""What a run lost against a baseline: how a case differs, figure by figure, and what is not there any more.

Nothing here reads runs or writes pages.
"""
