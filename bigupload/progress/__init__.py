"""Progress displays for a program: what each returns is an `on_event`."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from bigupload import errors

if TYPE_CHECKING:
    from rich.console import Console

    from bigupload.progress.rows import RichProgress
    from bigupload.progress.with_tqdm import TqdmProgress


def rich_progress(console: Console | None = None) -> RichProgress:
    """Show uploads as the command does: a row for each, in a terminal or in a notebook.

    ::

        await bigupload.upload("movie.mov", to="s3://bucket/raw/", on_event=bigupload.rich_progress())

    What it returns may be the `on_event` of many calls at once. Of `upload_many` and `sync` it shows one row for all
    files. A row ends with its upload, also if that fails. Use it as a context manager to remove what is left of calls
    whose event loop was stopped.

    Args:
        console: Where to draw; None: on standard error. In a notebook, rich needs `ipywidgets`.
    """
    from bigupload.progress.rows import RichProgress

    return RichProgress(console)


def tqdm_progress(**options: Any) -> TqdmProgress:
    """Show uploads by bars of tqdm, in a terminal or in a notebook, as `tqdm.auto` decides.

    ::

        await bigupload.upload("movie.mov", to="s3://bucket/raw/", on_event=bigupload.tqdm_progress(leave=False))

    It is used as `rich_progress` is. Its bars go below those that the program has already.

    Args:
        **options: For each bar, as `tqdm` takes them: `leave`, `file`, `ncols`, `disable` and so on.

    Raises:
        UsageError: tqdm is not installed.
    """
    if importlib.util.find_spec("tqdm") is None:
        raise errors.UsageError(
            "`tqdm_progress` needs tqdm: pip install tqdm. `rich_progress` comes with bigupload and needs nothing more"
        )
    from bigupload.progress.with_tqdm import TqdmProgress

    return TqdmProgress(options)
