"""The exit codes of `silence`, as the reference page promises them."""

OK = 0
BAD_INPUT = 1  # the user's input is wrong
BAD_USAGE = 2  # the command line is wrong
FAILED = 3  # it failed at run time
INTERRUPTED = 130  # Ctrl-C, as shells expect
