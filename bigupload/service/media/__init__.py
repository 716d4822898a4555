"""What a file may be: its type, its first bytes and structure, its key, the policy, what is behind a user's URL.

It must not know who sends it, and keeps no state.
"""
