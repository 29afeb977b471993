"""The command line: `main.py` puts the commands together, and each command has a file of its own."""
