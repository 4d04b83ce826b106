"""The command line, one file for each verb: arguments, calls and printing, but no logic."""
