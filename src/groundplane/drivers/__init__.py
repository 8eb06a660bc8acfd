"""Where work runs: one file a driver, none knows another."""
