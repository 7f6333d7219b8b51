"""Outputs against a reference: numbers, then the comparison as data, then its words.

Nothing here decides what follows from it, or knows where the tensors come from.
"""
