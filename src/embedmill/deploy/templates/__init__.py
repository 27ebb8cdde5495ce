"""Files that are copied as they are."""
