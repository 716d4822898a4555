"""The media service: holds the credentials, so that clients upload with an API key alone."""
