"""The small program beside the user's process: stage in, run, stage out. Standard library only."""
