"""The command line: one command per task, each a short call into a room."""
