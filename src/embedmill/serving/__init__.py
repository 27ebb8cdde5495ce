"""Model server and API server in one process, over exactly one release. Needs the extra `serve`.

load a release ─▶ prove it ─▶ answer ─▶ (--follow) load the next one beside it, prove it, swap
"""
