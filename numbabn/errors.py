"""Errors that more than one command raises."""


class UsageError(Exception):
    """A request that cannot be met as it is: exit code 2, where other errors have 1."""
