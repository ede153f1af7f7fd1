"""What a node sees of its cluster, told to observers such as ``erlmesh map`` and ``erlmesh top``."""
