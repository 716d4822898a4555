"""The library's surface: `Uploader`, and functions that are one of its methods each. `bigupload` exports their names.

A module here may import everything but `service` and `cli`.
"""
