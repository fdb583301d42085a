"""`python -m common.data.sample [kind …]`: draw the embedded data sets (all by default) into the cache folder."""

import sys

from common.data.sample import KINDS, ensure_sample
from common.errors import UsageError


def main(kinds: list[str]) -> int:
    """Prints a folder a kind; exit code 2, with one line, for an unknown kind or a cache that cannot be written."""
    try:
        for kind in kinds or KINDS:
            print(f"{kind}: {ensure_sample(kind)}")
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
