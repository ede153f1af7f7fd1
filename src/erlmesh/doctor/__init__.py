"""Why can these two nodes not meet? Steps from a name to a working connection, each with a finding in words."""
