"""Errors for input and output that cannot be used."""


class InputError(ValueError):
    """The user's input cannot be used; the message states what was found, what was expected and what to do.

    Every room raises a subclass of its own. The scripts print only the message and exit with code 2.
    """


class OutputError(InputError):
    """A file or folder cannot be written."""
