"""The smallest set of nodes that must stay in a higher precision, proved on the engine."""
