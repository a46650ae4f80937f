"""Write the golden bytes anew: ``python -m tests.contract.regenerate``; what was ever sent must stay readable."""

import json
import sys
from pathlib import Path

from tests import builders
from tests.contract.records import record_of

GOLDEN = Path(__file__).parent / "golden"


def goldens() -> dict[str, bytes]:
    """Return the payload and the headers of every builder's event, by file name."""
    files: dict[str, bytes] = {}
    for build in builders.ALL:
        event = build()
        record = record_of(event)
        shown = [[name, (value or b"").decode()] for name, value in record.headers]
        files[f"{type(event).__name__}.json"] = record.value or b""
        files[f"{type(event).__name__}.headers.json"] = f"{json.dumps(shown, indent=2)}\n".encode()
    return files


def main() -> int:
    files = goldens()
    for path in GOLDEN.glob("*.json"):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (GOLDEN / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
