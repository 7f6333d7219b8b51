"""Records of runs -> results.json, pages, baselines, trends.

Nothing here runs an engine or knows pytest.
"""
