"""
The configuration: a YAML file becomes one frozen, checked value.

`load` is the only door; everything downstream reads a `LoadedConfig` and checks nothing again. Each
section of the file has its own module here, and its defaults and bounds are there and nowhere else.
"""
