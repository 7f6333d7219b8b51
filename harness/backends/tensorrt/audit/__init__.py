"""What a builder really did: layers, types and names, read back and held against what was asked."""
