"""What the Reflector and the Curator are asked, and how their replies are read."""
