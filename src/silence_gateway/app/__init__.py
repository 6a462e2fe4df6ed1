"""The program: configuration, wiring, processes and the command line."""
