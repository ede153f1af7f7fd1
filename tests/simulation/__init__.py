"""What stories are made of: the world, what happens in it, what must always hold, and how it must end."""
