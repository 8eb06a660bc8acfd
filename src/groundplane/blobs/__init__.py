"""Where bytes live that work elsewhere fetches and leaves: one file a kind of store."""
