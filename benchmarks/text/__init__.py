"""Texts to vectors on disk, with the same weights: embedmill beside its peers and the hardware's peak."""
