"""Commands over the SDK."""
