"""Work on objects and uploads that exist: prove an object against a file, find and abort orphaned uploads (gc).

A module here may import everything but `api`, `batch`, `service` and `cli`.
"""
