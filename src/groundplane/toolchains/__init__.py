"""What work is written in. A toolchain is found through the entry points `groundplane.toolchains` (registry.py)."""
