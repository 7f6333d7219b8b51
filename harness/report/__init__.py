"""Records of a run and what is written from them."""
