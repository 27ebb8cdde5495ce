"""What benchmarks share: the machine, turns and medians, verdicts, memory, generated catalogs."""
