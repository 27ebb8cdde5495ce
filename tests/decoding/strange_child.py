"""A program that is no decoding process."""

import os

os.write(0, b"Content-Type: text/html\n\n<html>\n")
