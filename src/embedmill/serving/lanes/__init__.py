"""A lane for each encoder: one thread, a fair queue, a pace that is learned, vectors that are known."""
