"""Finding the other nodes: by a list, by DNS, by a file. It only ever adds; who leaves is seen by those who miss it."""
