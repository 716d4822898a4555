"""An owner's uploads and files: create, parts, complete, posts, quota, sweep.

It must not know HTTP: requests and responses are the models of `contract`, a refusal is `Refused`.
"""
