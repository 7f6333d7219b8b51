"""Latency: raw samples, derived statistics, stated doubts.

Nothing here compares runs with each other.
"""
