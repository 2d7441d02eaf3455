"""From a path to a finished run, and from a finished run to what it is evaluated on: what commands and estimator
call.
"""
