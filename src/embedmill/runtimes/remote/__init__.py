"""Models that a server has: what all protocols share, and one file for each of them."""
