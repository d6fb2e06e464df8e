"""From installed packages to listeners that can be called: discovery, inspection and loading."""
