"""Every value that can change a result, and where it came from."""
