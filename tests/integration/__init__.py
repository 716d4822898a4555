"""Tests of whole paths: the store adapter, the transport, uploads and resumes, against real sockets."""
