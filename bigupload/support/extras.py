"""The command that installs one of bigupload's extras, for messages."""

from __future__ import annotations

import shlex


def install_command(extra: str) -> str:
    """Return a command that installs an extra from where bigupload was installed.

    pip records a checkout or wheel in `direct_url.json` (PEP 610). For the name alone, it would look in an index.
    """
    import importlib.metadata  # only for a message that is shown before the program ends
    import json
    from urllib.parse import unquote, urlsplit

    try:
        found = json.loads(importlib.metadata.distribution("bigupload").read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        found = {}
    url = urlsplit(found.get("url", ""))
    if url.scheme != "file":
        return f"pip install 'bigupload[{extra}]'"
    editable = "-e " if found.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{shlex.quote(f'{unquote(url.path)}[{extra}]')}"
