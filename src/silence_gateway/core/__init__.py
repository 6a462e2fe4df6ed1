"""The pure part: no await, no clock, no I/O, no logging. Time and randomness are arguments."""
