"""A virus scan before a file counts: `bigupload serve --before-finish "python scan_upload.py /run/clamav/clamd.ctl"`.

The argument is the socket of clamd, the daemon of ClamAV, or its HOST:PORT. The file goes from the store to clamd in
pieces, by the command INSTREAM of https://manpages.debian.org/bookworm/clamav-daemon/clamd.8.en.html. clamd refuses a
stream that is longer than its StreamMaxLength: set that to the largest file that the service accepts (4 GB at most).

Exit status: 0 clean, 1 infected (the line on standard output is shown to the uploader), 2 the scan did not work.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import sys
import urllib.request

PIECE = 256 * 1024
SILENT_FOR = 50.0
"""Seconds: less than the service's --hook-timeout, so that the reason is in its log."""


def connect(place: str) -> socket.socket:
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit():
        return socket.create_connection((host, int(port)), timeout=SILENT_FOR)
    clamd = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    clamd.settimeout(SILENT_FOR)
    clamd.connect(place)
    return clamd


def scan(place: str, url: str, size: int) -> str:
    """Return clamd's answer: "stream: OK" or "stream: NAME FOUND". Raises OSError for a file that came cut off."""
    sent = 0
    with connect(place) as clamd, urllib.request.urlopen(url, timeout=SILENT_FOR) as file:
        clamd.sendall(b"zINSTREAM\0")
        while piece := file.read(PIECE):
            clamd.sendall(struct.pack("!I", len(piece)) + piece)
            sent += len(piece)
        if sent != size:  # a connection that ends too soon is no error to urllib
            raise ConnectionError(f"{sent} of {size} bytes came")
        clamd.sendall(struct.pack("!I", 0))
        answer = b""
        while not answer.endswith(b"\0") and (more := clamd.recv(4096)):
            answer += more
    return answer.rstrip(b"\0").decode(errors="replace")


def main() -> int:
    file = json.load(sys.stdin)
    try:
        answer = scan(sys.argv[1], file["url"], file["size"])
    except (OSError, http.client.HTTPException) as e:  # the URL is a secret: it is not printed
        print(f"the scan did not work: {type(e).__name__}", file=sys.stderr)
        return 2
    if answer == "stream: OK":
        return 0
    if found := re.fullmatch(r"stream: (.+) FOUND", answer):
        print(f"the file contains malware ({found[1]})")
        return 1
    print(f"clamd answered: {answer}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
