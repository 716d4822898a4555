"""Who sends a request, and what they may do: API keys, upload tokens, handles, origins, how many requests a second.

It must not know what an upload is, nor the store but for the tokens' records.
"""
