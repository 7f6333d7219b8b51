"""Engines spoilt on purpose, judged as the suites judge: which pass, and which right ones fail."""
