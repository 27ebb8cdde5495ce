"""Several pipelines at once: who gets which share of the devices, and how each of them stands."""
