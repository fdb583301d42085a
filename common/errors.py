"""The one exception that means "the user can mend this"; the command line prints it as one line and exits with code 2."""


class UsageError(Exception):
    """Bad input: an option, a file or a data set that is not what is expected.

    The message is one line, names the option or file, and says what was expected.
    Anything else that escapes is a bug of ours (exit code 1).
    """
