"""Image bytes become 8-bit pixels in processes that may die: decoders are large, images come from anywhere.

A decoding process (`child`) knows no more of Embedmill than this package, and this package no more than the
errors: it starts in a fraction of a second, has no secrets, and can open no files and no connections. `pool`
is its other end, `process` what lies between.
"""
