"""The tests on the systems that bigupload is not made on: see `python -m tests.platforms --help`."""
