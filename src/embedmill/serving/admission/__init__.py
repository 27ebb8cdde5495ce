"""Who may ask, how often and how much: keys, rates, doors, bodies, and the middleware that asks them all."""
