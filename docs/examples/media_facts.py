"""Width, height, duration and codecs of each file: `serve --before-finish "python media_facts.py s3://my-facts/"`.

ffprobe reads the file through its signed URL. What it finds of `media/shop/abc.mp4` becomes the object
`s3://my-facts/media/shop/abc.mp4.json`: ffprobe's own JSON, without the URL, which is a secret.

ffprobe may meet a file that was made to attack it. It gets neither this program's environment nor its files, reads
by HTTP alone, and is told the format. If it guessed, a "film" that is a playlist could have it fetch other URLs.

Exit status: 0, even for a file that ffprobe can't read: it counts without facts. 2 if they could not be stored: the
service asks again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import bigupload

FORMATS = {
    "image/jpeg": "jpeg_pipe",
    "image/png": "png_pipe",
    "image/gif": "gif",
    "image/webp": "webp_pipe",
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
}
WITHIN = 30.0
"""Seconds: less than the service's --hook-timeout."""


def find_facts(url: str, kind: str) -> dict[str, Any]:
    """Return the streams and the format of a file. Raises CalledProcessError or TimeoutExpired."""
    ffprobe = shutil.which("ffprobe") or "ffprobe"
    limits = ["-protocol_whitelist", "http,https,tcp,tls", "-max_alloc", "400000000"]
    wanted = ["-show_entries", "stream=codec_type,codec_name,width,height,duration,avg_frame_rate:format=duration"]
    command = [ffprobe, "-v", "error", *limits, "-f", FORMATS[kind], *wanted, "-of", "json", url]
    done = subprocess.run(command, env={}, capture_output=True, check=True, timeout=WITHIN)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def main() -> int:
    file, place = json.load(sys.stdin), sys.argv[1]
    if file["contentType"] not in FORMATS:
        return 0
    try:
        facts = find_facts(file["url"], file["contentType"])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):  # they name the URL, which is a secret
        return 0
    options = bigupload.S3Options(content_type="application/json")
    try:
        bigupload.upload_sync(json.dumps(facts).encode(), f"{place.rstrip('/')}/{file['key']}.json", s3=options)
    except bigupload.BigUploadError as e:
        print(f"the facts could not be stored: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
