"""The sandbox's pages: an inbox to look at, and the room from which faults are set."""
