"""What works on this machine, and engines as text."""
