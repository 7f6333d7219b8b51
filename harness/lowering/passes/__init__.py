"""What prepares a graph, whatever the format: names, opsets, shapes, and the contract of every pass."""
