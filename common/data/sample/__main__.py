"""`python -m common.data.sample [kind …]`: draw the embedded data sets (all by default) into the cache folder."""

import sys

from common.data.sample import KINDS, ensure_sample
from common.errors import UsageError

try:
    for kind in sys.argv[1:] or KINDS:
        print(f"{kind}: {ensure_sample(kind)}")
except UsageError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
