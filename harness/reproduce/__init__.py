"""A failure that others can see: found again, cut to its smallest piece, packed without this project."""
