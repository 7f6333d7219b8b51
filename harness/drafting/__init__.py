"""Specs for models that have none; a draft must run as it is."""
