"""The operator's programs: hooks, which are asked before a step, and webhooks, which are told after it.

It must not know what an upload goes through, nor who may ask for one: it is given what happened.
"""
