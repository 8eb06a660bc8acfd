"""The rules of the platform, one noun a file; the only writer of state."""
