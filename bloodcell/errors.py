"""The one exception for everything that a user can get wrong."""


class BloodcellError(Exception):
    """A mistake or a lack that the user can mend.

    The message says what is wrong, where, and what to do next, in at most three lines. The command line
    prints it without a traceback and exits with a code that is not 0.
    """
