"""What things are: frozen data and pure rules. No I/O."""
