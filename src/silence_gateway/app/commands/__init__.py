"""What the commands of `silence` do, one file per family. Only these files print."""
