"""Models that are fed raw fields and give embeddings: a file for each protocol that a server may speak."""
