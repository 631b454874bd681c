"""URI loaders."""
