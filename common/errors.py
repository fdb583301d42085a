"""UsageError means "the user can mend this": the command line prints it as one line and exits with code 2. Done is no error."""


class UsageError(Exception):
    """Bad input: an option, a file or a data set that is not what is expected.

    The message is one line, names the option or file, and says what was expected.
    Anything else that escapes is a bug of ours (exit code 1).
    """


class Done(Exception):
    """What was asked for is done and nothing is left to do (`--plan`): exit code 0."""
