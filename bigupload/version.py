"""The version of bigupload. Apart, so that what needs no more of the package imports no more."""

__version__ = "0.1.0"
