"""One file per job of the command line: functions that yield or return records and print nothing, and `show`, their
viewer.
"""
