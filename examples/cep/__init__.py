"""Complex event processing on a cluster: means over windows and patterns of prices, with one owner for each symbol."""
