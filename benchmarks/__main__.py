"""`python -m benchmarks [name …]`: run all measures (or those of the modules named: pipeline, losses, explanation, …) and print them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback

import benchmarks
from common.cli import prepare_environment


def main(names: list[str]) -> int:
    """Exit code 1 when an equality check fails; a missed target is printed, not hidden, and does not stop the others."""
    prepare_environment()
    known = sorted(item.name.removeprefix("bench_") for item in pkgutil.iter_modules(benchmarks.__path__) if item.name.startswith("bench_"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"benchmarks: unknown measure '{unknown[0]}'; expected some of {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    for name in names or known:
        print(f"{name}:", flush=True)
        try:
            importlib.import_module(f"benchmarks.bench_{name}").main()
        except Exception:
            failed = True
            traceback.print_exc()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
