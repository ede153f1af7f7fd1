"""The page of ``erlmesh map``: an HTTP server inside a node that shows its cluster. It needs the extra ``web``."""
