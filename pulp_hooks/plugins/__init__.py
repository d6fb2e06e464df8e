"""From installed packages to listeners that can be called: discovery, inspection, loading, and the hook relay."""
