"""
What has to fit together across keys and sections, one file per subject.

Every check is a function from a whole config to findings; none of them reads the YAML, and none
changes anything. A config that passes is one that can run; a warning is about one that may surprise.
"""
