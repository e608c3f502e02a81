"""All benchmarks, one process each, then one table. ``python -m tests.bench [NAME…]``, about 6 minutes on 2 cores."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stages.mobile.timing import processor
from tests.bench.table import ROWS_FILE, Row, markdown

NAMES = ("stylegan", "translator", "mobile", "latent", "faces", "loader", "ops")


def main() -> int:
    """Runs the named benchmarks (all by default) and prints the table; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    names = parser.parse_args().names or NAMES
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.touch()
        for name in names:
            command = [sys.executable, "-m", f"tests.bench.bench_{name}"]
            if subprocess.run(command, env=os.environ | {ROWS_FILE: str(path)}, check=False).returncode:
                failed.append(name)
        rows = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    load = Path("/proc/loadavg").read_text(encoding="utf-8").split()[0]
    print(f"\n{processor()}, {os.cpu_count()} cores, load at the end {load}\n\n{markdown(rows)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
