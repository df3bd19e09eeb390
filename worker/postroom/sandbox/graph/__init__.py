"""The stand-in for Graph: its endpoints, and how it reads, checks and refuses requests."""
