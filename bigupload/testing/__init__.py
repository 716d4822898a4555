"""What tests of uploads need: a strict fake of AWS S3, a proxy that breaks exchanges with a real store.

`strict_s3` is the fake, `fault_proxy` the proxy, `faults` what both can do wrong. None of them imports the rest of
bigupload: a fake that shared code with the uploader would share its mistakes, and no test would notice them.
"""
