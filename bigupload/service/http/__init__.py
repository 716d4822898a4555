"""The service's edge: requests come in here and answers go out. Limits, errors, log, metrics, the API's description.

It knows the other rooms, and none of them knows it. What a request means is decided by `uploads` and `access`.
"""
