"""awscrt's functions for CRCs, without the rest of it.

To import awscrt takes 40 ms, in which nothing else runs: it gathers randomness and reads the system's certificates,
which a checksum does not need. So its library is loaded without its module's initialisation, in 3 ms, and the functions
are found by their names in C. Where this can't be done, awscrt is imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

NEWEST_TRIED = (0, 38)
"""The newest version of awscrt whose functions are known to be called like this. A newer one is imported."""
_CHECKS = {"crc64nvme": 0xAE8B14860A799888, "crc32c": 0xE3069283, "crc32": 0xCBF43926}
"""The CRC of b"123456789": https://reveng.sourceforge.io/crc-catalogue/all.htm"""


@functools.cache
def crc_function(name: str) -> Callable[..., int]:
    """Return a function of `awscrt.checksums`, such as `crc32c(data, previous)`, or `combine_crc32c(one, other, size)`.

    Raises:
        ImportError: awscrt can't be loaded, as where there is no memory for it.
    """
    kind = name.removeprefix("combine_")
    crc, combine = _of_library(f"checksums_{kind}"), _of_library(f"checksums_{kind}_combine")
    if crc is not None and combine is not None and _is_right(kind, crc, combine):
        return crc if name == kind else combine
    while True:
        module = importlib.import_module("awscrt.checksums")
        # Python gives a thread that waits for another one's import the module also where that fails: without contents.
        if hasattr(module, name) or sys.modules.get(module.__name__) is module:
            imported: Callable[..., int] = getattr(module, name)
            return imported


def _of_library(name: str) -> Callable[..., int] | None:
    library = None if "_awscrt" in sys.modules else _library()
    function = getattr(library, f"aws_py_{name}", None)
    if function is None:
        return None
    import ctypes

    function.restype, function.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object)
    return lambda *arguments: function(None, arguments)  # as Python calls a METH_VARARGS function of a module


@functools.cache
def _library() -> Any:
    """Return the library; None if it is not one of those that were tried, or can't be loaded alone."""
    # Written in Python, and small. It has no types of its own, and may not be there when a program is checked.
    import awscrt  # type: ignore[import-untyped, import-not-found, unused-ignore]

    try:
        version = tuple(map(int, awscrt.__version__.split(".")[:2]))
        found = importlib.util.find_spec("_awscrt")
        if version > NEWEST_TRIED or found is None or found.origin is None:
            return None
        import ctypes

        return ctypes.PyDLL(found.origin)
    except (AttributeError, ImportError, OSError, ValueError):  # a build without a version, or a Python without ctypes
        return None


def _is_right(kind: str, crc: Callable[..., int], combine: Callable[..., int]) -> bool:
    whole = _CHECKS[kind]
    return crc(b"123456789", 0) == whole == combine(crc(b"12345", 0), crc(b"6789", 0), 4)
