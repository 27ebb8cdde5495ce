"""Real models on every runtime that applies: are the vectors equal, and what does each cost?"""
