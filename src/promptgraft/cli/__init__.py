"""The command line: one file a verb; arguments, calls and printing, no logic."""
