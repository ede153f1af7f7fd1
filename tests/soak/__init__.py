"""The soak test: a mesh of Python nodes and BEAMs under load and faults for minutes, while their resources are watched.

``make soak MINUTES=30``. The nodes that are watched run in each build, on asyncio and on uvloop.
"""
