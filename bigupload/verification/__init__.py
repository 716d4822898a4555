"""Work on objects and uploads that exist: prove an object against a file, find and abort abandoned uploads.

A module here may import everything but `api`, `service` and `cli`.
"""
