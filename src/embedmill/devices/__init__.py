"""What a host knows of its accelerators, and who holds them: the standard library alone, Python 3.8 or newer.

These modules are sent to servers where nothing is installed (`bundle`), and are used here as well: by the
worker's watchdog and by the local engine. So they import each other and nothing else of Embedmill.
"""
