"""Table formats and their conversion at a step's edge.

`groundplane.data.formats` is the part that the control plane and the agent import: it knows which endings convert to
which and loads no library. The conversion itself runs in a process of its own, `python -I -m groundplane.data`, so that
a crash or a memory blow-up inside a C reader hurts one task and nothing else.
"""
