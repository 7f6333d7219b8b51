"""From comparisons to a verdict, its advice and its words.

Nothing here measures time, writes a report or knows pytest.
"""
