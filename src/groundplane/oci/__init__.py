"""What speaks to container engines and registries. The standard library alone."""
