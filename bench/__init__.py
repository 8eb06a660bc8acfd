"""How near Groundplane comes to what the machine can do: every figure beside the bare limit of the same run."""
