"""The run folder: files only."""
