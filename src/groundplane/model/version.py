"""This version. Versions meet daily: control plane, agent and command line compare theirs."""

VERSION = "0.1.0"
