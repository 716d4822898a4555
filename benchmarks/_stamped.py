"""Run a command, and put before each line of its standard error the seconds since its start: `_stamped.py COMMAND…`.

It is run by its path, and imports little, because it is a part of what is measured.
"""

from __future__ import annotations

import subprocess
import sys
import time


def main() -> int:
    began = time.monotonic()
    with subprocess.Popen(sys.argv[1:], stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for line in child.stderr:
            sys.stderr.buffer.write(b"%.3f %b" % (time.monotonic() - began, line))
            sys.stderr.buffer.flush()
    return child.returncode


if __name__ == "__main__":
    raise SystemExit(main())
