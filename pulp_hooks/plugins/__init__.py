"""Discovery, inspection and loading of plugins: from installed packages to listeners."""
