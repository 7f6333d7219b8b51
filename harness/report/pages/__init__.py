"""The pages of a run and of many runs, as one offline HTML file each.

Nothing here decides: what a page shows, records and baselines say.
"""
